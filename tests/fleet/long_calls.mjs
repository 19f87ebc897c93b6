// Long calls with the TypeScript SDK's client as it comes, in either generation: see long_calls.py, which does the same.
//
//     node long_calls.mjs NODE_MODULES 1|2 URL CALLS SPREAD_SECONDS STEPS STEP_MILLISECONDS PATIENCE_SECONDS

import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const BETWEEN_HANDSHAKES_MILLISECONDS = 500;
const MOST_HANDSHAKES = 20;

const [modules, generation, url, calls, spreadSeconds, steps, stepMilliseconds, patienceSeconds] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/${path}`));
const { Client } = await sdk(generation === "2" ? "client/dist/index.mjs" : "sdk/dist/esm/client/index.js");
const { StreamableHTTPClientTransport } = await sdk(
  generation === "2" ? "client/dist/index.mjs" : "sdk/dist/esm/client/streamableHttp.js",
);

let hasBegun = false;

function sayBegun() {
  if (!hasBegun) console.log("begun");
  hasBegun = true;
}

class Call {
  report = {
    steps: [],
    result: "",
    error: "",
    vain_handshakes: 0,
    resumes: 0,
    vain_resumes: [],
    is_exhausted: false,
    is_deaf: false,
  };
  #stream; // of the call, as its event ids name it
  #vainInARow = 0;

  async run() {
    let client;
    try {
      client = await this.#open();
      this.report.result = await this.#count(client);
    } catch (error) {
      this.report.error = `${error.name}: ${error.message}${error.cause ? ` (${error.cause})` : ""}`;
    }
    if (client) client.onerror = undefined;
    await client?.close();
    return this.report;
  }

  async #open() {
    for (;;) {
      try {
        return await this.#connect();
      } catch (error) {
        if (this.report.vain_handshakes >= MOST_HANDSHAKES) throw error;
        this.report.vain_handshakes += 1;
        await sleep(BETWEEN_HANDSHAKES_MILLISECONDS);
      }
    }
  }

  async #connect() {
    const client = new Client({ name: "long_calls.mjs", version: "1" }, { versionNegotiation: { mode: "legacy" } });
    client.onerror = (error) => this.#hear(error);
    try {
      await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: this.#fetch }));
      await client.listTools();
    } catch (error) {
      await client.close();
      throw error;
    }
    return client;
  }

  // That the SDK gives a stream up it tells here and nowhere else; which of a session's two it is it doesn't say.
  #hear(error) {
    if (!error.message.startsWith("Maximum reconnection attempts")) return;
    this.report[this.#vainInARow >= 2 ? "is_exhausted" : "is_deaf"] = true;
  }

  #fetch = async (target, init) => {
    const eventId = init.method === "GET" ? new Headers(init.headers).get("last-event-id") : null;
    if (eventId === null || eventId.split(".")[0] !== this.#stream) return fetch(target, init);
    try {
      const response = await fetch(target, init);
      this.#note(response.ok ? "" : `HTTP ${response.status}`);
      return response;
    } catch (error) {
      this.#note(`${error.cause ?? error}`);
      throw error;
    }
  };

  #note(trouble) {
    this.#vainInARow = trouble ? this.#vainInARow + 1 : 0;
    if (trouble) this.report.vain_resumes.push(trouble);
    else this.report.resumes += 1;
  }

  async #count(client) {
    const params = { name: "count", arguments: { n: Number(steps), delay_ms: Number(stepMilliseconds) } };
    const options = {
      timeout: Number(patienceSeconds) * 1000,
      onprogress: ({ progress }) => {
        this.report.steps.push(progress);
        sayBegun();
      },
      onresumptiontoken: (eventId) => (this.#stream = eventId.split(".")[0]),
    };
    const asked = generation === "2" ? client.callTool(params, options) : client.callTool(params, undefined, options);
    return (await asked).content[0].text;
  }
}

async function call(number) {
  await sleep((number * Number(spreadSeconds) * 1000) / Number(calls));
  return new Call().run();
}

console.log("ready");
await once(process.stdin, "data");
process.stdin.destroy();
console.log(JSON.stringify(await Promise.all(Array.from({ length: Number(calls) }, (_, number) => call(number)))));
