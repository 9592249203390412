// A host for the tests: starts the program as DeepGen does, and calls it over its socket.
'use strict';

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const arrow = require('apache-arrow');
const protocol = require('../deepgen-plugin/protos').load();

const PROGRAM = path.join(__dirname, '..', 'my_plugins');
const LIMIT = 64 * (1 << 20) + 64 * 1024;

class Host {
  // Starts it and shakes no hands yet; `line` is what it says when it is ready.
  static async start(program = PROGRAM, versions = [1]) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plugin-'));
    const socket = path.join(folder, 'plugin.sock');
    const env = { ...process.env, DEEPGEN_PLUGIN_FD: '3' };
    const child = spawn(program, [], { stdio: ['ignore', 'inherit', 'pipe', 'pipe'], env });
    const host = Object.assign(new Host(), { child, folder, socket, pid: child.pid, log: '' });
    child.stderr.on('data', (data) => (host.log += data));
    host.ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
    child.stdio[3].on('error', () => {});
    child.stdio[3].write(`${JSON.stringify({ protocol_versions: versions, token: 'secret', socket })}\n`);
    const [said] = await Promise.race([once(child.stdio[3], 'data'), host.ended.then(() => ['{}'])]);
    host.line = JSON.parse(said);
    host.clients = {};
    return host;
  }

  client(service) {
    const options = { 'grpc.max_receive_message_length': LIMIT, 'grpc.max_send_message_length': LIMIT };
    const credentials = grpc.credentials.createInsecure();
    this.clients[service] ??= new protocol[service](`unix:${this.socket}`, credentials, options);
    return this.clients[service];
  }

  metadata(token = 'Bearer secret') {
    const metadata = new grpc.Metadata();
    if (token) metadata.set('authorization', token);
    return metadata;
  }

  // The answer of a call with one.
  call(service, method, request, metadata = this.metadata()) {
    return new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer));
      this.client(service)[method](request, metadata, done);
    });
  }

  put(pieces) {
    return new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer.key));
      const call = this.client('PluginService').Put(this.metadata(), done);
      for (const data of pieces) call.write({ data });
      call.end();
    });
  }

  async get(key) {
    const call = this.client('PluginService').Get({ key }, this.metadata());
    const pieces = [];
    for await (const { data } of call) pieces.push(data);
    return pieces;
  }

  async stop() {
    for (const client of Object.values(this.clients)) client.close();
    this.child.stdio[3].destroy();
    await this.ended;
    fs.rmSync(this.folder, { recursive: true });
  }
}

// A string column as a payload.
function texts(values, type = new arrow.Utf8()) {
  return { arrow: ipc({ text: arrow.vectorFromArray(values, type) }) };
}

// Columns by name as an Arrow stream.
function ipc(columns) {
  return Buffer.from(arrow.tableToIPC(new arrow.Table(columns), 'stream'));
}

// Memory as a host shares it: a file of this process that others open by its number.
function memory(size) {
  const file = path.join('/dev/shm', `plugin-test-${process.pid}-${Math.random()}`);
  const fd = fs.openSync(file, 'w+', 0o600);
  fs.unlinkSync(file);
  fs.ftruncateSync(fd, size);
  return { fd, path: `/proc/${process.pid}/fd/${fd}` };
}

module.exports = { Host, PROGRAM, grpc, arrow, protocol, texts, ipc, memory };
