// Plugins of DeepGen in Node.js: `serve` makes a program of them, which a scene names as `plugin: exec:./PROGRAM`.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const host = require('./host');
const errors = require('./errors');

const MIB = 1 << 20;
const LARGEST_MESSAGE = 64 * MIB + 64 * 1024;

// Serves plugins to the host that started this program, or by hand at `--listen unix:/path.sock`.
// `about` has the program's name and version, as a package.json has.
async function serve(plugins, about) {
  const inherited = process.env.DEEPGEN_PLUGIN_FD;
  delete process.env.DEEPGEN_PLUGIN_FD; // it is not for programs that a plugin starts
  const [flag, address = ''] = process.argv.slice(2);
  if (inherited === undefined && !(flag === '--listen' && address.startsWith('unix:'))) {
    console.error(`${about.name}: plugins of DeepGen, which starts this program: --plugin exec:./${about.name}`);
    console.error(`or serve them by hand: ${about.name} --listen unix:/run/${about.name}.sock`);
    process.exit(2);
  }
  const fd = inherited === undefined ? null : Number(inherited);
  try {
    require('./declared').check(plugins);
    const given = fd === null ? { socket: address.slice('unix:'.length) } : host.greeting(fd);
    const drain = await listen(plugins, about, given);
    process.on('SIGTERM', drain);
    // Ctrl-C reaches all programs of a terminal; the host ends this one when it needs it no more.
    process.on('SIGINT', fd === null ? drain : () => {});
    if (fd !== null) {
      host.watch(fd);
      host.say(fd, { ready: true });
    }
  } catch (error) {
    const hint = error.code === 'MODULE_NOT_FOUND' ? '; run `npm ci` in its folder' : '';
    const line = `${about.name}: ${String(error.message).split('\n')[0]}${hint}`;
    console.error(line);
    try {
      if (fd !== null) host.say(fd, { error: line });
    } finally {
      process.exit(1);
    }
  }
}

// Listens at a UNIX socket that only this user can open; gives what ends the program when its calls are answered.
async function listen(plugins, about, { protocol_versions: versions, token, socket }) {
  const grpc = require('@grpc/grpc-js');
  const protocol = require('./protos').load();
  const { common } = require('./plugin_service');
  if (versions) common(versions);
  const server = new grpc.Server({
    'grpc.max_receive_message_length': LARGEST_MESSAGE,
    'grpc.max_send_message_length': LARGEST_MESSAGE,
    interceptors: token ? [onlyWith(token)] : [],
  });
  const drain = () => server.tryShutdown(() => process.exit(0));
  const payloads = new (require('./payloads').Payloads)();
  const instances = new (require('./instances').Instances)(plugins);
  const service = require('./plugin_service').pluginService(plugins, about, instances, payloads, drain);
  const calls = require('./calls');
  server.addService(protocol.PluginService.service, service);
  server.addService(protocol.ProcessorService.service, calls.processorService(instances, payloads));
  server.addService(protocol.MetricService.service, calls.metricService(instances, payloads));
  await makeRoom(socket);
  const others = process.umask(0o177);
  try {
    await new Promise((resolve, reject) => {
      const bound = (error) => (error ? reject(error) : resolve());
      server.bindAsync(`unix:${path.resolve(socket)}`, grpc.ServerCredentials.createInsecure(), bound);
    });
  } finally {
    process.umask(others);
  }
  return drain;
}

// Deletes a socket that nobody listens on any more.
async function makeRoom(socket) {
  if (!fs.lstatSync(socket, { throwIfNoEntry: false })?.isSocket()) return;
  const refused = await new Promise((resolve) => {
    const tried = net.connect(socket, () => resolve(tried.destroy() && null));
    tried.on('error', resolve);
  });
  if (!refused) throw new Error(`a server listens at ${socket} already`);
  if (refused.code === 'ECONNREFUSED') fs.unlinkSync(socket);
}

// Refuses every call that does not bring the token.
function onlyWith(token) {
  const grpc = require('@grpc/grpc-js');
  const digest = (text) => crypto.createHash('sha256').update(text).digest();
  const right = digest(`Bearer ${token}`);
  const refusal = { code: grpc.status.UNAUTHENTICATED, details: 'the call does not bring the token of this program' };
  return (method, call) =>
    new grpc.ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, proceed) {
            const [shown = ''] = metadata.get('authorization');
            if (crypto.timingSafeEqual(digest(String(shown)), right)) proceed(metadata);
            else call.sendStatus(refusal);
          },
        });
      },
    });
}

// Numbers of more than one dimension are a flat typed array, row by row, with a property `shape`.
function withShape(values, shape) {
  return Object.assign(values, { shape });
}

const { SceneError, DataError, PluginError, RunError, BadRows } = errors;
module.exports = { serve, withShape, SceneError, DataError, PluginError, RunError, BadRows };
