// Metric `node_f1`: macro F1 of single-label classification from counts that are added up; equal to `f1_macro`.
'use strict';

const { withShape } = require('./deepgen-plugin');
const { chosenClass, trueClass } = require('./decisions');

// Columns of the counts.
const RIGHT = 0;
const CHOSEN = 1;
const TRUE = 2;
const COUNTS = 3;

module.exports = {
  kind: 'metric',
  name: 'node_f1',
  summary: 'Mean of the F1 of the classes that are true or chosen in some row, from 0 to 1; equal to `f1_macro`.',
  fits: ['single_label_classification'],
  higherIsBetter: true,

  keys: () => ['node_f1_macro'],

  // [1, classes, 3]: small whatever the number of rows, which is why it has a `merge` of its own.
  update({ scores, labels }) {
    const [rows, outputs] = scores.shape;
    const classes = Math.max(outputs, 2);
    const counts = new Float64Array(classes * COUNTS);
    for (let row = 0; row < rows; row++) {
      const chosen = chosenClass(scores, row, 0);
      const truth = trueClass(labels[row]);
      counts[truth * COUNTS + TRUE] += 1;
      if (chosen >= 0) counts[chosen * COUNTS + CHOSEN] += 1;
      if (chosen === truth) counts[truth * COUNTS + RIGHT] += 1;
    }
    return { counts: withShape(counts, [1, classes, COUNTS]) };
  },

  merge(states) {
    const [first, ...others] = states.map(({ counts }) => counts);
    if (!first) return {};
    const sum = withShape(first.slice(), first.shape);
    for (const counts of others) counts.forEach((count, at) => (sum[at] += count));
    return { counts: sum };
  },

  compute({ counts = [] }) {
    let sum = 0;
    let classes = 0;
    for (let at = 0; at < counts.length; at += COUNTS) {
      const both = counts[at + CHOSEN] + counts[at + TRUE];
      if (both === 0) continue;
      sum += (2 * counts[at + RIGHT]) / both;
      classes += 1;
    }
    return { node_f1_macro: classes ? sum / classes : NaN };
  },
};
