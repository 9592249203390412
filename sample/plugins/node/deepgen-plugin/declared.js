// What plugins declare, looked at before they are served: the first mistake is one line with the plugin's name.
'use strict';

const { TYPES, typeOf } = require('./describe');

const FUNCTIONS = { processor: ['fields', 'process'], metric: ['keys', 'update', 'compute'] };
const NAME = /^[a-z_][a-z0-9_]*$/i;

function check(plugins) {
  for (const plugin of plugins) {
    const refuse = (words) => {
      throw new Error(`${plugin?.kind ?? 'plugin'} ${plugin?.name ?? ''}: ${words}`);
    };
    const functions = FUNCTIONS[plugin?.kind] ?? refuse(`its kind is one of ${Object.keys(FUNCTIONS).join(', ')}`);
    if (!NAME.test(plugin.name ?? '')) refuse('its name is letters, digits and _, as a scene writes it');
    if (typeof plugin.summary !== 'string' || !plugin.summary) refuse('it has no summary');
    const absent = functions.find((name) => typeof plugin[name] !== 'function');
    if (absent) refuse(`it has no function '${absent}'`);
    const { columns = [1, 1] } = plugin;
    const counts = Array.isArray(columns) && columns.length === 2 && columns.every(Number.isInteger);
    if (!counts) refuse('columns is [least, most], such as [1, 1]');
    if (plugin.kind === 'metric' && !(Array.isArray(plugin.fits) && plugin.fits.length)) {
      refuse("fits names the problems that it scores, such as ['single_label_classification']");
    }
    for (const [name, option] of Object.entries(plugin.options ?? {})) checkOption(name, option, refuse);
  }
}

function checkOption(name, option, refuse) {
  const type = typeOf(option);
  const known = `${Object.keys(TYPES).join(', ')}, or an array of words to choose from`;
  if (!type) refuse(`option ${name}: its type is one of ${known}, not '${option.type}'`);
  if (!option.help) refuse(`option ${name}: it has no help`);
  if (option.default === undefined) refuse(`option ${name}: it has no default; null is one`);
  if (option.default !== null && !type.fits(option.default)) {
    refuse(`option ${name}: its default ${JSON.stringify(option.default)} is not ${type.words}`);
  }
}

module.exports = { check };
