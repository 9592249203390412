// Processor `node_int`: a column of whole numbers, read as `convert2int` does.
'use strict';

const { BadRows } = require('./deepgen-plugin');

// What Python takes for white space; String.trim takes other characters too.
const SPACE = '[\\t-\\r\\x1c-\\x20\\x85\\p{Zs}\\u2028\\u2029]*';
const WHOLE = new RegExp(`^${SPACE}([+-]?[0-9]+)${SPACE}$`, 'u');
const LEAST = -(2n ** 63n);
const MOST = 2n ** 63n - 1n;

module.exports = {
  kind: 'processor',
  name: 'node_int',
  summary: 'Whole numbers of at most 64 bits, with or without a sign; spaces around them are allowed.',
  columns: [1, 1],
  options: {
    node_int_offset: {
      type: 'integer',
      default: 0,
      least: -1e9,
      most: 1e9,
      help: 'Added to each number, such as -1 where the labels of a file begin with 1.',
    },
  },

  fields: ({ output }) => [{ name: output, dtype: 'int64' }],

  process([cells], { inputs: [column], output, options }) {
    const offset = BigInt(options.node_int_offset);
    const numbers = new BigInt64Array(cells.length);
    const bad = [];
    cells.forEach((cell, row) => {
      const refuse = (reason) => bad.push({ row, column, value: cell ?? '', reason });
      if (cell === null) return refuse('has no value');
      const found = WHOLE.exec(cell);
      if (!found) return refuse('is not a whole number');
      const number = BigInt(found[1]) + offset;
      if (number < LEAST || number > MOST) return refuse('does not fit into 64 bits');
      numbers[row] = number;
    });
    if (bad.length) throw new BadRows(bad);
    return { [output]: numbers };
  },
};
