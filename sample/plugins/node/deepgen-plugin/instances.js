// The plugins that are configured, by the host's names for them; calls of one come one at a time.
'use strict';

const { status } = require('@grpc/grpc-js');
const { PluginError, SceneError, Status } = require('./errors');
const { fieldMessage, settings } = require('./describe');

class Instances {
  constructor(plugins) {
    this.plugins = plugins;
    this.made = new Map();
  }

  // The same request again gives the same instance.
  configure(request) {
    const before = this.made.get(request.instance);
    const asked = fingerprint(request);
    if (before) {
      if (before.asked === asked) return before;
      throw new Status(status.ALREADY_EXISTS, `instance '${request.instance}' is there with another configuration`);
    }
    const kind = request.kind.toLowerCase();
    const offered = this.plugins.filter((each) => each.kind === kind);
    const plugin = offered.find((each) => each.name === request.name);
    if (!plugin) {
      const names = offered.map((each) => each.name).join(', ') || 'none';
      throw new PluginError(`there is no ${kind} '${request.name}' here; there are: ${names}`);
    }
    const { inputs, output, tokenizer } = request;
    const [least, most] = plugin.columns ?? [1, 1];
    if (kind === 'processor' && (inputs.length < least || inputs.length > most)) {
      const right = least === most ? least : `${least} to ${most}`;
      throw new SceneError(`processor '${plugin.name}' reads ${right} columns, not ${inputs.length}`);
    }
    const instance = { plugin, asked, inputs, output, tokenizer, options: settings(plugin, request.options) };
    if (kind === 'processor') instance.fields = plugin.fields(instance).map(fieldMessage);
    instance.turn = Promise.resolve();
    this.made.set(request.instance, instance);
    return instance;
  }

  release(name) {
    this.made.delete(name);
  }

  // What `work` gives for an instance, when the calls before it are answered.
  inTurn(name, kind, call, work) {
    const instance = this.made.get(name);
    if (!instance) throw new Status(status.NOT_FOUND, `there is no instance '${name}'`);
    if (instance.plugin.kind !== kind) {
      throw new Status(status.INVALID_ARGUMENT, `instance '${name}' is a ${instance.plugin.kind}, not a ${kind}`);
    }
    const mine = instance.turn.then(() => {
      if (call.cancelled) throw new Status(status.CANCELLED, 'nobody waits for the answer');
      return work(instance);
    });
    instance.turn = mine.catch(() => {});
    return mine;
  }
}

// The request as text, whatever the order of its maps.
function fingerprint({ kind, name, options, inputs, output, tokenizer }) {
  const files = Object.entries(tokenizer).map(([file, bytes]) => [file, bytes.toString('base64')]);
  return JSON.stringify([kind, name, Object.entries(options).sort(), inputs, output, files.sort()]);
}

module.exports = { Instances };
