// The program as a host meets it: its start and end, the token, the handshake, its instances.
'use strict';

const assert = require('node:assert/strict');
const { spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { Host, PROGRAM, grpc, memory, protocol, texts } = require('./host');

const { status } = grpc;
let host;
before(async () => (host = await Host.start()));
after(() => host.stop());

const plugin = (method, request, metadata) => host.call('PluginService', method, request, metadata);
const refused = (code, words) => (error) => {
  assert.equal(error.code, code);
  assert.match(error.details, words);
  return true;
};

test('it says that it is ready, at a socket of its own', () => {
  assert.deepEqual(host.line, { ready: true });
  assert.equal(fs.statSync(host.socket).mode & 0o777, 0o600);
});

test('a call without the token, or with another, is not answered', async () => {
  for (const token of [null, 'secret', 'Bearer other', 'Bearer secret2']) {
    const call = plugin('Probe', {}, host.metadata(token));
    await assert.rejects(call, refused(status.UNAUTHENTICATED, /token/));
  }
  assert.deepEqual(await plugin('Probe', {}), { ready: true, why: '' });
});

test('the handshake finds the version, the features and whether memory is shared', async () => {
  const { fd, path: shared } = memory(4096);
  fs.writeSync(fd, 'seen', 100);
  const nonce = Buffer.from([0, 255, 7]);
  const probe = { path: shared, offset: 100, length: 4 };
  const features = ['payload.shared_memory.v1', 'never.heard.of'];
  const answer = await plugin('Handshake', { protocol_versions: [7, 1], features, nonce, probe });
  assert.equal(answer.protocol_version, 1);
  assert.match(answer.plugin, /^my_plugins 1\.0\.0 \(node \d+/);
  assert.deepEqual(answer.features, ['payload.shared_memory.v1', 'payload.parts.v1']);
  assert.deepEqual([...answer.nonce], [...nonce]);
  assert.equal(answer.probe.toString(), 'seen');
  assert.equal(answer.sharing, 'PER_RANK');
  for (const path of [`/proc/${process.pid}/fd/9999`, '/etc/passwd', '/proc/1/fd/../environ']) {
    const other = await plugin('Handshake', { protocol_versions: [1], probe: { path, offset: 0, length: 4 } });
    assert.equal(other.probe.length, 0);
  }
});

test('no version in common, and a required feature that is unknown, are refused by name', async () => {
  const two = /^the host speaks versions 2, 3 of the protocol and this plugin 1$/;
  await assert.rejects(plugin('Handshake', { protocol_versions: [2, 3] }), refused(status.FAILED_PRECONDITION, two));
  const request = { protocol_versions: [1], required_features: ['payload.parts.v1', 'x'] };
  const feature = /^the host requires the feature 'x', which this plugin does not have$/;
  await assert.rejects(plugin('Handshake', request), refused(status.FAILED_PRECONDITION, feature));
});

test('it describes its plugins, the same each time', async () => {
  const { plugins } = await plugin('Describe', {});
  assert.deepEqual(plugins, (await plugin('Describe', {})).plugins);
  const names = plugins.map(({ kind, name, abilities }) => [kind, name, abilities]);
  assert.deepEqual(names, [
    ['PROCESSOR', 'node_int', []],
    ['METRIC', 'node_acc', []],
    ['METRIC', 'node_f1', ['merge']],
  ]);
  const [offset] = plugins[0].options;
  assert.deepEqual(
    [offset.name, offset.type, offset.default, offset.least],
    ['node_int_offset', 'whole number', '0', -1e9],
  );
  assert.match(plugins[0].digest, /^[0-9a-f]{64}$/);
});

test('to configure twice is to configure once; another configuration needs another name', async () => {
  const request = {
    instance: 'a',
    kind: 'PROCESSOR',
    name: 'node_int',
    options: {},
    inputs: ['label'],
    output: 'labels',
  };
  const first = await plugin('Configure', request);
  assert.deepEqual([first.failure, first.fields[0].name, first.fields[0].dtype], [null, 'labels', 'int64']);
  assert.deepEqual(await plugin('Configure', request), first);
  const other = { ...request, options: { node_int_offset: '1' } };
  await assert.rejects(plugin('Configure', other), refused(status.ALREADY_EXISTS, /'a'/));
  await plugin('Release', { instance: 'a' });
  await plugin('Release', { instance: 'a' });
  assert.equal((await plugin('Configure', other)).failure, null);
});

test('what cannot be configured is said in the answer', async () => {
  const request = { instance: 'bad', kind: 'PROCESSOR', name: 'node_int', inputs: ['label'], output: 'labels' };
  const cases = [
    [{ name: 'other' }, 'PluginError', /no processor 'other' here; there are: node_int/],
    [{ inputs: ['a', 'b'] }, 'SceneError', /reads 1 columns, not 2/],
    [{ options: { other: '1' } }, 'PluginError', /no option 'other'/],
    [{ options: { node_int_offset: '1.5' } }, 'SceneError', /1\.5 is not whole number/],
    [{ options: { node_int_offset: '9007199254740993' } }, 'SceneError', /above the greatest value, 1000000000/],
    [{ options: { node_int_offset: 'null' } }, 'SceneError', /cannot be left without a value/],
  ];
  for (const [change, kind, words] of cases) {
    const { failure } = await plugin('Configure', { ...request, ...change });
    assert.equal(failure.kind, kind);
    assert.match(failure.message, words);
  }
});

test('a call of an instance that is not there, or is of another kind, is refused', async () => {
  const call = (instance) => host.call('ProcessorService', 'Process', { instance, columns: texts(['1']) });
  await assert.rejects(call('nobody'), refused(status.NOT_FOUND, /'nobody'/));
  await plugin('Configure', { instance: 'm', kind: 'METRIC', name: 'node_acc' });
  await assert.rejects(call('m'), refused(status.INVALID_ARGUMENT, /'m' is a metric, not a processor/));
});

test('calls that are not known are refused as such', async () => {
  await assert.rejects(plugin('Check', { instance: 'm' }), refused(status.UNIMPLEMENTED, /Check/));
  const outputter = new protocol.PluginService(`unix:${host.socket}`, grpc.credentials.createInsecure());
  const bytes = (value) => value;
  const path = '/deepgen.v1.OutputterService/Columns';
  const call = new Promise((resolve, reject) => {
    const done = (error) => (error ? reject(error) : resolve());
    outputter.makeUnaryRequest(path, bytes, bytes, Buffer.alloc(0), host.metadata(), done);
  });
  await assert.rejects(call, refused(status.UNIMPLEMENTED, /Columns/));
  outputter.close();
});

// A program with one instance of a processor, in the middle of a call of so many milliseconds.
async function working(name, milliseconds) {
  const other = await Host.start(path.join(__dirname, 'odd_plugins'));
  await other.call('PluginService', 'Configure', {
    instance: 'a',
    kind: 'PROCESSOR',
    name,
    inputs: ['c'],
    output: 'o',
  });
  const call = other.call('ProcessorService', 'Process', { instance: 'a', columns: texts([String(milliseconds)]) });
  const settled = call.then(
    ({ result }) => result,
    ({ code }) => code,
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  return { other, settled };
}

test('it ends at once when the host is gone, whatever it is doing', async () => {
  const { other, settled } = await working('busy', 3_600_000);
  other.child.stdio[3].destroy();
  assert.deepEqual(await other.ended, { code: null, signal: 'SIGKILL' });
  assert.equal(await settled, status.UNAVAILABLE);
  await other.stop();
});

for (const [way, end] of [
  ['Shutdown', (other) => Promise.all([1, 2].map(() => other.call('PluginService', 'Shutdown', {})))],
  ['SIGTERM', (other) => other.child.kill('SIGTERM')],
]) {
  test(`${way}: what runs is finished, then it ends well`, async () => {
    const { other, settled } = await working('slow', 1000);
    assert.equal((await other.call('PluginService', 'Probe', {})).ready, true);
    await end(other);
    assert.equal(await settled, 'fields');
    assert.deepEqual(await other.ended, { code: 0, signal: null });
    await other.stop();
  });
}

test('Ctrl-C is the matter of the host', async () => {
  const other = await Host.start();
  other.child.kill('SIGINT');
  assert.equal((await other.call('PluginService', 'Probe', {})).ready, true);
  await other.stop();
});

test('a start that fails says why in one line', async () => {
  const future = await Host.start(PROGRAM, [2]);
  assert.match(future.line.error, /the host speaks version 2 of the protocol and this plugin 1$/);
  assert.deepEqual(await future.ended, { code: 1, signal: null });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plugin-'));
  const from = path.join(__dirname, '..');
  const own = (file) => !['node_modules', 'test', 'protos'].includes(path.relative(from, file));
  fs.cpSync(from, folder, { recursive: true, filter: own });
  const bare = await Host.start(path.join(folder, 'my_plugins'));
  assert.match(bare.line.error, /Cannot find module '@grpc\/grpc-js'; run `npm ci` in its folder$/);
  assert.equal((await bare.ended).code, 1);
  fs.rmSync(folder, { recursive: true });
});

test('by hand it says how it is used, and serves a socket that is given', async () => {
  const env = { ...process.env };
  delete env.DEEPGEN_PLUGIN_FD;
  const bare = spawnSync(PROGRAM, [], { env, encoding: 'utf8' });
  assert.equal(bare.status, 2);
  assert.match(bare.stderr, /--plugin exec:\.\/my_plugins/);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plugin-'));
  const socket = path.join(folder, 'p.sock');
  for (const attempt of [1, 2]) {
    const child = spawn(PROGRAM, ['--listen', `unix:${socket}`], { env, stdio: 'inherit' });
    const client = new protocol.PluginService(`unix:${socket}`, grpc.credentials.createInsecure());
    const ready = new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer.ready));
      client.Probe({}, new grpc.Metadata({ waitForReady: true }), { deadline: Date.now() + 30_000 }, done);
    });
    assert.equal(await ready, true, `start ${attempt}`);
    client.close();
    const other = spawnSync(PROGRAM, ['--listen', `unix:${socket}`], { env, encoding: 'utf8', timeout: 20_000 });
    assert.deepEqual([other.status, other.stderr], [1, `my_plugins: a server listens at ${socket} already\n`]);
    assert.ok(fs.existsSync(socket));
    // The first leaves its socket behind; the second begins anew over it.
    child.kill(attempt === 1 ? 'SIGKILL' : 'SIGINT');
    assert.deepEqual(await once(child, 'exit'), attempt === 1 ? [null, 'SIGKILL'] : [0, null]);
  }
  fs.rmSync(folder, { recursive: true });
});
