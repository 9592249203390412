// PluginService: who this is, what it offers, its instances and its end.
'use strict';

const { status } = require('@grpc/grpc-js');
const { Status, failureMessage } = require('./errors');
const { descriptor } = require('./describe');
const { readShared } = require('./payloads');
const { unary } = require('./unary');

const VERSIONS = [1];
const FEATURES = ['payload.shared_memory.v1', 'payload.parts.v1'];

// The highest version of the protocol that the host has too.
function common(versions) {
  const both = VERSIONS.filter((version) => versions.includes(version));
  if (both.length) return Math.max(...both);
  const theirs = versions.length ? `version${versions.length > 1 ? 's' : ''} ${versions.join(', ')}` : 'no version';
  const words = `the host speaks ${theirs} of the protocol and this plugin ${VERSIONS.join(', ')}`;
  throw new Status(status.FAILED_PRECONDITION, words);
}

function handshake(about, request) {
  const protocol_version = common(request.protocol_versions);
  const unknown = request.required_features.find((feature) => !FEATURES.includes(feature));
  if (unknown !== undefined) {
    const words = `the host requires the feature '${unknown}', which this plugin does not have`;
    throw new Status(status.FAILED_PRECONDITION, words);
  }
  return {
    protocol_version,
    plugin: `${about.name} ${about.version} (node ${process.versions.node})`,
    features: FEATURES,
    nonce: request.nonce,
    probe: request.probe ? probed(request.probe) : undefined,
    sharing: 'PER_RANK',
  };
}

// What is in the memory that the host shares; undefined where it cannot be read, as in another container.
function probed(memory) {
  try {
    return readShared(memory);
  } catch {
    return undefined;
  }
}

function configured(instances, request) {
  try {
    const instance = instances.configure(request);
    const { plugin } = instance;
    if (plugin.kind === 'metric') return { keys: plugin.keys(instance) };
    return {
      fields: instance.fields,
      class_names: plugin.classNames?.(instance),
      reference_column: plugin.referenceColumn?.(instance),
    };
  } catch (error) {
    if (error instanceof Status) throw error;
    return { failure: failureMessage(error) };
  }
}

function pluginService(plugins, about, instances, payloads, drain) {
  return {
    Handshake: unary((request) => handshake(about, request)),
    Describe: unary(() => ({ plugins: plugins.map((plugin) => descriptor(plugin, about)) })),
    Configure: unary((request) => configured(instances, request)),
    Release: unary(({ instance }) => (instances.release(instance), {})),
    Probe: unary(() => ({ ready: true })),
    Shutdown: unary(() => (setImmediate(drain), {})),
    Put: (call, callback) => payloads.put(call, callback),
    Get: (call) => payloads.get(call),
  };
}

module.exports = { pluginService, common };
