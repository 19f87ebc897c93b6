// A real client: the TypeScript SDK v1. See python_sdk2.py.
//
//     node typescript_sdk1.mjs NODE_MODULES BASE_URL

import { pathToFileURL } from "node:url";

const [modules, base] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/sdk/dist/esm/${path}`));
const { Client } = await sdk("client/index.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const { ElicitRequestSchema } = await sdk("types.js");

const calls = {
  echo: { name: "echo", arguments: { text: "hello" } },
  math: { name: "add", arguments: { a: 2, b: 3 } },
  weather: { name: "get_weather", arguments: { city: "Berlin", month: 7 } },
};

const found = { tools: {}, called: {} };
for (const [backend, call] of Object.entries(calls)) {
  const client = new Client({ name: "typescript_sdk1.mjs", version: "1" }, { capabilities: { elicitation: {} } });
  client.setRequestHandler(ElicitRequestSchema, async () => ({ action: "accept", content: { answer: "yes" } }));
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
console.log(JSON.stringify(found));
