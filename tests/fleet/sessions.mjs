// Whole client sessions with the TypeScript SDK v1, many side by side: see sessions.py, which does the same.
//
//     node sessions.mjs NODE_MODULES URL COUNT AT_ONCE

import { pathToFileURL } from "node:url";

const [modules, url, count, atOnce] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/sdk/dist/esm/${path}`));
const { Client } = await sdk("client/index.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const types = await sdk("types.js");

const SESSION_MILLISECONDS = 60_000;
const LAST = "echo://last";
const statuses = {};
const errors = [];

function expect(found, wanted) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (left !== right) throw new Error(`${left} instead of ${right}`);
}

async function call(client, name, args) {
  return (await client.callTool({ name, arguments: args })).content[0].text;
}

async function countWithProgress(client) {
  const seen = [];
  const params = { name: "count", arguments: { n: 3, delay_ms: 5 } };
  const result = await client.callTool(params, undefined, { onprogress: ({ progress }) => seen.push(progress) });
  expect(result.content[0].text, "counted to 3");
  expect(seen, [1, 2, 3]);
}

function connectable(word, streaming, changed) {
  const client = new Client(
    { name: "sessions.mjs", version: "1" },
    { capabilities: { elicitation: {}, sampling: {} } },
  );
  client.setRequestHandler(types.ElicitRequestSchema, async ({ params }) => ({
    action: "accept",
    content: { answer: `${params.message}!` },
  }));
  client.setRequestHandler(types.CreateMessageRequestSchema, async ({ params }) => {
    const content = params.messages[0].content;
    const text = (Array.isArray(content) ? content[0] : content).text.split("\n").at(-1);
    return { role: "assistant", model: "none", content: { type: "text", text: `${text}, in short` } };
  });
  client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, changed);
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    fetch: async (target, init) => {
      const response = await fetch(target, init);
      const line = `${init.method} ${response.status}`;
      statuses[line] = (statuses[line] ?? 0) + 1;
      if (init.method === "GET" && response.status === 200) streaming();
      return response;
    },
  });
  return { client, transport, word };
}

async function use({ client, transport, word }, isStreaming, hasChanged) {
  await client.connect(transport);
  const names = (await client.listTools()).tools.map((tool) => tool.name).sort();
  expect(names, ["ask", "count", "echo", "summarise"]);
  await countWithProgress(client);
  expect(await call(client, "ask", { question: word }), `The answer is: ${word}!`);
  expect(await call(client, "summarise", { text: word }), `${word}, in short`);
  await isStreaming;
  await client.subscribeResource({ uri: LAST });
  expect(await call(client, "echo", { text: word }), word);
  await hasChanged;
  await client.unsubscribeResource({ uri: LAST });
  const text = (await client.readResource({ uri: LAST })).contents[0].text;
  expect(["legacy", "2026-07-28", "typescript"].includes(text.split(" ")[0]), true);
  await transport.terminateSession();
}

async function run(number) {
  let streaming, changed, timer;
  const isStreaming = new Promise((resolve) => (streaming = resolve));
  const hasChanged = new Promise((resolve) => (changed = resolve));
  const parts = connectable(`typescript ${number}`, streaming, changed);
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the session took too long")), SESSION_MILLISECONDS);
  });
  // What the transport could not read or send, it tells here and nowhere else.
  const broken = new Promise((_, reject) => (parts.client.onerror = reject));
  try {
    await Promise.race([use(parts, isStreaming, hasChanged), late, broken]);
  } finally {
    clearTimeout(timer);
    parts.client.onerror = undefined;
    await parts.client.close();
  }
}

let next = 0;
async function work() {
  while (next < Number(count)) {
    const number = next++;
    try {
      await run(number);
    } catch (error) {
      errors.push(`${number}: ${error.stack}`);
    }
  }
}

await Promise.all(Array.from({ length: Number(atOnce) }, work));
console.log(JSON.stringify({ clean: Number(count) - errors.length, statuses, errors }));
