// A real client: the TypeScript SDK v2. See python_sdk2.py.
//
//     node typescript_sdk2.mjs NODE_MODULES BASE_URL auto|legacy|2026-07-28

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

const found = { tools: {}, called: {} };
for (const [backend, call] of Object.entries(calls)) {
  const client = new Client(
    { name: "typescript_sdk2.mjs", version: "1" },
    {
      capabilities: { elicitation: {} },
      versionNegotiation: { mode: mode === "auto" || mode === "legacy" ? mode : { pin: mode } },
    },
  );
  client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { answer: "yes" } }));
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
console.log(JSON.stringify(found));
