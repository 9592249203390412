// Metric `node_acc`: the share of rows whose class, or whose whole set of classes, is right; equal to `acc`.
'use strict';

const { chosenClass, trueClass } = require('./decisions');

module.exports = {
  kind: 'metric',
  name: 'node_acc',
  summary: 'Share of rows that are right, from 0 to 1; equal to `acc`.',
  fits: ['multi_label_classification', 'single_label_classification'],
  higherIsBetter: true,
  options: {
    node_acc_threshold: {
      type: 'number',
      default: 0,
      least: -100,
      most: 100,
      help: 'A class of several, or class 1 of one logit, is chosen where its logit is above this.',
    },
  },

  keys: () => ['node_acc'],

  // One number a row, 1 where it is right: DeepGen puts the states of batches and ranks one behind the other.
  update({ problem, scores, labels }, { options }) {
    const threshold = options.node_acc_threshold;
    const [rows, classes] = scores.shape;
    const hit = new Uint8Array(rows);
    for (let row = 0; row < rows; row++) {
      if (problem === 'multi_label_classification') {
        hit[row] = 1;
        for (let at = row * classes; at < (row + 1) * classes; at++) {
          if (Number.isNaN(scores[at]) || scores[at] > threshold !== labels[at] > 0.5) hit[row] = 0;
        }
      } else {
        const chosen = chosenClass(scores, row, threshold);
        hit[row] = chosen >= 0 && chosen === trueClass(labels[row]) ? 1 : 0;
      }
    }
    return { hit };
  },

  compute({ hit = [] }) {
    return { node_acc: hit.length ? hit.reduce((sum, one) => sum + one, 0) / hit.length : NaN };
  },
};
