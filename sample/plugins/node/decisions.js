// What a classifier decided and what is true, row by row; the metrics share it.
'use strict';

// The class with the highest score, or -1 where a score is not a number; of one logit, class 1 above the threshold.
function chosenClass(scores, row, threshold) {
  const classes = scores.shape[1];
  const own = scores.subarray(row * classes, (row + 1) * classes);
  if (own.some(Number.isNaN)) return -1;
  if (classes === 1) return own[0] > threshold ? 1 : 0;
  return own.reduce((best, score, index) => (score > own[best] ? index : best), 0);
}

// A label of single-label classification; int64 arrives as BigInt, which keeps all 64 bits.
function trueClass(label) {
  return Number(typeof label === 'bigint' ? label : Math.trunc(label));
}

module.exports = { chosenClass, trueClass };
