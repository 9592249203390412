// What a plugin says of itself, and the options that it was given.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { PluginError, SceneError } = require('./errors');

// By the word for it in an option's `type`; an array is a choice of words.
const TYPES = {
  integer: { kind: 'INTEGER', words: 'whole number', fits: Number.isInteger },
  number: { kind: 'NUMBER', words: 'number', fits: (value) => typeof value === 'number' },
  boolean: { kind: 'BOOL', words: 'true or false', fits: (value) => typeof value === 'boolean' },
  text: { kind: 'TEXT', words: 'text', fits: (value) => typeof value === 'string' },
};

function typeOf(option) {
  if (!Array.isArray(option.type)) return TYPES[option.type];
  const words = `one of ${option.type.join(', ')}`;
  return { kind: 'CHOICE', words, fits: (value) => option.type.includes(value), choices: option.type };
}

// The numbers that an option takes; JavaScript holds whole ones up to 53 bits.
function bounds(option) {
  if (option.type !== 'integer') return option;
  return { least: option.least ?? Number.MIN_SAFE_INTEGER, most: option.most ?? Number.MAX_SAFE_INTEGER };
}

// The message PluginDescriptor.
function descriptor(plugin, about) {
  const processor = plugin.kind === 'processor';
  const [least, most] = plugin.columns ?? [1, 1];
  const inputs = Array.from({ length: most }, (_, column) => `column${column + 1}`);
  const usual = { options: settings(plugin, {}), inputs, output: 'output' };
  return {
    kind: plugin.kind.toUpperCase(),
    name: plugin.name,
    version: about.version,
    summary: plugin.summary,
    options: Object.entries(plugin.options ?? {}).map(([name, option]) => optionMessage(name, option)),
    inputs: processor ? inputs.map((name) => fieldMessage({ name, dtype: 'string' })) : [],
    outputs: processor
      ? plugin.fields(usual).map(fieldMessage)
      : plugin.keys(usual).map((name) => fieldMessage({ name, dtype: 'float32' })),
    digest: digest(),
    abilities: plugin.merge ? ['merge'] : [],
    fits: plugin.fits ?? [],
    least_columns: processor ? least : 0,
    most_columns: processor ? most : 0,
    higher_is_better: plugin.higherIsBetter ?? false,
  };
}

function optionMessage(name, option) {
  const { kind, words, choices } = typeOf(option);
  const whole = kind === 'NUMBER' && Number.isInteger(option.default);
  const json = whole ? option.default.toFixed(1) : JSON.stringify(option.default);
  return {
    name,
    type: words,
    default: option.default === null ? '' : typeof option.default === 'string' ? option.default : json,
    has_default: true,
    choices,
    help: option.help,
    types: [{ kind, choices }],
    nullable: option.default === null,
    least: bounds(option).least,
    most: bounds(option).most,
    default_json: json,
  };
}

// { name, dtype, shape, padding, mask, side, length }; all but name and dtype may be left out.
function fieldMessage(field) {
  return { shape: 'SCALAR', padding: field.shape === 'RAGGED' ? '0' : '', ...field };
}

// Stands for the code of the program: all that is loaded but the packages, and what pins those.
function digest() {
  const root = path.join(__dirname, '..');
  const own = Object.keys(require.cache).filter((file) => !file.includes(`${path.sep}node_modules${path.sep}`));
  const lock = path.join(root, 'package-lock.json');
  const hash = crypto.createHash('sha256');
  for (const file of [...own, ...(fs.existsSync(lock) ? [lock] : [])].sort()) {
    hash.update(`${path.relative(root, file)}\n`).update(fs.readFileSync(file));
  }
  return hash.digest('hex');
}

// The values of a plugin's options; `given` has JSON by name.
function settings(plugin, given) {
  const declared = plugin.options ?? {};
  const values = Object.fromEntries(Object.entries(declared).map(([name, option]) => [name, option.default]));
  for (const [name, json] of Object.entries(given)) {
    const option = declared[name];
    if (!option) throw new PluginError(`${plugin.kind} ${plugin.name} has no option '${name}'`);
    const value = parsed(name, json);
    const type = typeOf(option);
    if (value !== null && !type.fits(value)) throw new SceneError(`${name}: ${json} is not ${type.words}`);
    if (value === null && option.default !== null) throw new SceneError(`${name}: it cannot be left without a value`);
    const { least, most } = bounds(option);
    if (value < least) throw new SceneError(`${name}: ${json} is below the least value, ${least}`);
    if (value > most) throw new SceneError(`${name}: ${json} is above the greatest value, ${most}`);
    values[name] = value;
  }
  return values;
}

function parsed(name, json) {
  try {
    return JSON.parse(json);
  } catch {
    throw new SceneError(`${name}: '${json}' is no JSON`);
  }
}

module.exports = { TYPES, descriptor, fieldMessage, settings, typeOf };
