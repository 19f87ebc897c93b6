// A real client: the TypeScript SDK v1. See python_sdk2.py.
//
//     node typescript_sdk1.mjs NODE_MODULES BASE_URL

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modules, base] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/sdk/dist/esm/${path}`));
const { Client } = await sdk("client/index.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const types = await sdk("types.js");

const calls = {
  echo: { name: "echo", arguments: { text: "hello" } },
  math: { name: "add", arguments: { a: 2, b: 3 } },
  weather: { name: "get_weather", arguments: { city: "Berlin", month: 7 } },
};
const everything = JSON.parse(readFileSync(new URL("everything.json", import.meta.url)));
const LAST = "echo://last";

function makeClient() {
  const client = new Client(
    { name: "typescript_sdk1.mjs", version: "1" },
    { capabilities: { elicitation: {}, sampling: {} } },
  );
  client.setRequestHandler(types.ElicitRequestSchema, async () => ({ action: "accept", content: { answer: "yes" } }));
  client.setRequestHandler(types.CreateMessageRequestSchema, async () => ({
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
  client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, ({ params }) => {
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
    const onprogress = ({ progress }) => found.steps.push(progress);
    const result = await client.callTool({ name, arguments: args }, undefined, { onprogress });
    found.called[name] = result.structuredContent;
  }
  const prompt = await client.getPrompt({ name: "echo__rephrase", arguments: { text: "No!", tone: "kind" } });
  found.prompt = prompt.messages[0].content.text;
  found.tools = (await client.listTools()).tools.map(({ name }) => name);
  found.prompts = (await client.listPrompts()).prompts.map(({ name }) => name);
  found.resources = (await client.listResources()).resources.map(({ uri }) => uri);
  found.templates = (await client.listResourceTemplates()).resourceTemplates.map(({ uriTemplate }) => uriTemplate);
  found.climate = JSON.parse((await client.readResource({ uri: "weather://Berlin/climate" })).contents[0].text);
  await isStreaming;
  await client.subscribeResource({ uri: LAST });
  await client.callTool({ name: "echo__echo", arguments: { text: "watched" } });
  await isTold;
  await client.unsubscribeResource({ uri: LAST });
  found.read = (await client.readResource({ uri: LAST })).contents[0].text;
  await transport.terminateSession();
  await client.close();
  return found;
}

const found = { tools: {}, called: {} };
for (const [backend, call] of Object.entries(calls)) {
  const client = makeClient();
  const transport = new StreamableHTTPClientTransport(new URL(`${base}/${backend}/mcp`));
  await client.connect(transport);
  found.version = transport.protocolVersion;
  found.tools[backend] = (await client.listTools()).tools.map((tool) => tool.name).sort();
  found.called[backend] = (await client.callTool(call)).structuredContent;
  if (backend === "echo") {
    found.asked = (await client.callTool({ name: "ask", arguments: { question: "Really?" } })).content[0].text;
  }
  await transport.terminateSession();
  await client.close();
}
found.everything = await useEverything();
console.log(JSON.stringify(found));
