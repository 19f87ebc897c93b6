// A real client: the TypeScript SDK v2. See python_sdk2.py.
//
//     node typescript_sdk2.mjs NODE_MODULES BASE_URL auto|legacy|2026-07-28

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modules, base, mode] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport } = await import(
  pathToFileURL(`${modules}/@modelcontextprotocol/client/dist/index.mjs`)
);

const calls = {
  echo: { name: "echo", arguments: { text: "hello" } },
  math: { name: "add", arguments: { a: 2, b: 3 } },
  weather: { name: "get_weather", arguments: { city: "Berlin", month: 7 } },
};
const everything = JSON.parse(readFileSync(new URL("everything.json", import.meta.url)));
const LAST = "echo://last";

function makeClient() {
  const client = new Client(
    { name: "typescript_sdk2.mjs", version: "1" },
    {
      capabilities: { elicitation: {}, sampling: {} },
      versionNegotiation: { mode: mode === "auto" || mode === "legacy" ? mode : { pin: mode } },
    },
  );
  client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { answer: "yes" } }));
  client.setRequestHandler("sampling/createMessage", async () => ({
    role: "assistant",
    model: "none",
    content: { type: "text", text: "in short" },
  }));
  return client;
}

async function useEverything() {
  let streaming, told;
  const isStreaming = new Promise((resolve) => (streaming = resolve));
  const isTold = new Promise((resolve) => (told = resolve));
  const client = makeClient();
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => {
    if (params.uri === LAST) told();
  });
  const transport = new StreamableHTTPClientTransport(new URL(`${base}/mcp`), {
    fetch: async (target, init) => {
      const response = await fetch(target, init);
      if (init.method === "GET" && response.status === 200) streaming();
      return response;
    },
  });
  await client.connect(transport);
  const found = { called: {}, steps: [] };
  for (const [name, args] of Object.entries(everything)) {
    // Of a call that asks its user this SDK reports progress of its own: the rounds that it takes.
    const options = name === "echo__count" ? { onprogress: ({ progress }) => found.steps.push(progress) } : undefined;
    found.called[name] = (await client.callTool({ name, arguments: args }, options)).structuredContent;
  }
  const prompt = await client.getPrompt({ name: "echo__rephrase", arguments: { text: "No!", tone: "kind" } });
  found.prompt = prompt.messages[0].content.text;
  found.tools = (await client.listTools()).tools.map(({ name }) => name);
  found.prompts = (await client.listPrompts()).prompts.map(({ name }) => name);
  found.resources = (await client.listResources()).resources.map(({ uri }) => uri);
  found.templates = (await client.listResourceTemplates()).resourceTemplates.map(({ uriTemplate }) => uriTemplate);
  found.climate = JSON.parse((await client.readResource({ uri: "weather://Berlin/climate" })).contents[0].text);
  const watch = { text: "watched" };
  if (client.getNegotiatedProtocolVersion() < "2026") {
    await isStreaming;
    await client.subscribeResource({ uri: LAST });
    await client.callTool({ name: "echo__echo", arguments: watch });
    await isTold;
    await client.unsubscribeResource({ uri: LAST });
  } else {
    const subscription = await client.listen({ resourceSubscriptions: [LAST] });
    await client.callTool({ name: "echo__echo", arguments: watch });
    await isTold;
    await subscription.close();
  }
  found.read = (await client.readResource({ uri: LAST })).contents[0].text;
  await client.close();
  return found;
}

const found = { tools: {}, called: {} };
for (const [backend, call] of Object.entries(calls)) {
  const client = makeClient();
  const transport = new StreamableHTTPClientTransport(new URL(`${base}/${backend}/mcp`));
  await client.connect(transport);
  found.version = client.getNegotiatedProtocolVersion();
  found.tools[backend] = (await client.listTools()).tools.map((tool) => tool.name).sort();
  found.called[backend] = (await client.callTool(call)).structuredContent;
  if (backend === "echo") {
    found.asked = (await client.callTool({ name: "ask", arguments: { question: "Really?" } })).content[0].text;
  }
  await client.close();
}
found.everything = await useEverything();
console.log(JSON.stringify(found));
