// The plugins over the socket: what they answer, for good rows and bad ones.
'use strict';

const assert = require('node:assert/strict');
const { after, before, test } = require('node:test');
const { Host, arrow, ipc, texts } = require('./host');

let host;
before(async () => {
  host = await Host.start();
  const configure = (request) => host.call('PluginService', 'Configure', request);
  await configure({ instance: 'int', kind: 'PROCESSOR', name: 'node_int', inputs: ['label'], output: 'labels' });
  await configure({
    instance: 'from 1',
    kind: 'PROCESSOR',
    name: 'node_int',
    inputs: ['label'],
    output: 'labels',
    options: { node_int_offset: '-1' },
  });
  const acc = await configure({ instance: 'acc', kind: 'METRIC', name: 'node_acc' });
  assert.deepEqual(acc.keys, ['node_acc']);
  await configure({ instance: 'strict', kind: 'METRIC', name: 'node_acc', options: { node_acc_threshold: '2.5' } });
  await configure({ instance: 'f1', kind: 'METRIC', name: 'node_f1' });
});
after(() => host.stop());

const process_ = (instance, values) => host.call('ProcessorService', 'Process', { instance, columns: texts(values) });
const numbers = (answer) => [...arrow.tableFromIPC(answer.fields.arrow).getChild('labels')];

test('numbers keep all their 64 bits', async () => {
  const least = -(2n ** 63n);
  const most = 2n ** 63n - 1n;
  const answer = await process_('int', [
    '1',
    ' +07\t',
    '-0',
    '9007199254740993',
    `${least}`,
    `${most}`,
    '\u00a05\u3000',
  ]);
  assert.deepEqual(numbers(answer), [1n, 7n, 0n, 9007199254740993n, least, most, 5n]);
  assert.deepEqual(numbers(await process_('from 1', ['1', `${most}`, `${most + 1n}`])), [0n, most - 1n, most]);
});

test('every bad row is named, with what would be right', async () => {
  const cells = ['1', '', '2.0', null, '9223372036854775808', '٣', '\ufeff1', 'one', '+-5'];
  const answer = await process_('int', cells);
  assert.equal(answer.result, 'bad_rows');
  assert.deepEqual(
    answer.bad_rows.rows.map(({ row, column, value, reason }) => [Number(row), column, value, reason]),
    [
      [1, 'label', '', 'is not a whole number'],
      [2, 'label', '2.0', 'is not a whole number'],
      [3, 'label', '', 'has no value'],
      [4, 'label', '9223372036854775808', 'does not fit into 64 bits'],
      [5, 'label', '٣', 'is not a whole number'],
      [6, 'label', '\ufeff1', 'is not a whole number'],
      [7, 'label', 'one', 'is not a whole number'],
      [8, 'label', '+-5', 'is not a whole number'],
    ],
  );
});

// [rows][classes] as a fixed-size list.
function fixed(rows) {
  const type = new arrow.FixedSizeList(rows[0].length, new arrow.Field('item', new arrow.Float32(), true));
  return arrow.vectorFromArray(rows, type);
}

function predictions(problem, scores, labels) {
  const label = Array.isArray(labels[0]) ? fixed(labels) : arrow.vectorFromArray(labels, new arrow.Int64());
  return { rows: { arrow: ipc({ scores: fixed(scores), label }) }, problem };
}

async function state(instance, ...given) {
  const answer = await host.call('MetricService', 'Update', { instance, predictions: predictions(...given) });
  assert.equal(answer.result, 'state', answer.failure?.message);
  return answer.state;
}

const merged = async (instance, states) => (await host.call('MetricService', 'Merge', { instance, states })).state;
const score = async (instance, given) => {
  const { scores } = await host.call('MetricService', 'Compute', { instance, state: given });
  return Object.fromEntries(scores.map(({ key, value }) => [key, value]));
};

test('one class of several: the highest score, the lower index of two; a row with nan is wrong', async () => {
  const scores = [
    [1, 2, 0],
    [3, 3, 1],
    [NaN, 0, 0],
    [0, 0, Infinity],
  ];
  const labels = [1n, 0n, 0n, 1n];
  const given = await state('acc', 'single_label_classification', scores, labels);
  assert.deepEqual(await score('acc', given), { node_acc: 0.5 });
});

test('one logit, and several classes at a time, are decided by the threshold', async () => {
  const one = ['single_label_classification', [[0], [1], [3], [-1]], [0n, 1n, 1n, 0n]];
  assert.deepEqual(await score('acc', await state('acc', ...one)), { node_acc: 1 });
  assert.deepEqual(await score('strict', await state('strict', ...one)), { node_acc: 0.75 });
  const several = [
    'multi_label_classification',
    [
      [1, -1],
      [1, 1],
      [NaN, 3],
    ],
    [
      [1, 0],
      [1, 0],
      [0, 1],
    ],
  ];
  assert.deepEqual(await score('acc', await state('acc', ...several)), { node_acc: 1 / 3 });
  assert.deepEqual(await score('strict', await state('strict', ...several)), { node_acc: 0 });
});

test('no rows: nan', async () => {
  const empty = await merged('acc', []);
  assert.deepEqual(await score('acc', empty), { node_acc: NaN });
  assert.deepEqual(await score('f1', await merged('f1', [])), { node_f1_macro: NaN });
});

test('states are merged in any order and grouping', async () => {
  const one = [[[2, 1, 0]], [[0, 5, 1]], [[1, 0, 0]], [[NaN, 1, 1]], [[0, 0, 9]]];
  const labels = [0n, 1n, 2n, 1n, 2n];
  const problem = 'single_label_classification';
  for (const [instance, want] of [
    ['acc', 3 / 5],
    ['f1', (2 / 3 + 2 / 3 + 2 / 3) / 3],
  ]) {
    const [key] = Object.keys(await score(instance, await merged(instance, [])));
    const parts = [];
    for (const [row, scores] of one.entries()) parts.push(await state(instance, problem, scores, [labels[row]]));
    const whole = await state(instance, problem, one.flat(), labels);
    const left = await merged(instance, [await merged(instance, parts.slice(0, 3)), ...parts.slice(3)]);
    const right = await merged(instance, [
      parts[4],
      await merged(instance, [parts[3], await merged(instance, parts.slice(0, 3))]),
    ]);
    for (const each of [whole, left, right]) assert.deepEqual(await score(instance, each), { [key]: want });
  }
});

test('what a metric throws is said in the answer, with its trace', async () => {
  const rows = { arrow: ipc({ row: arrow.vectorFromArray([1n], new arrow.Int64()) }) };
  const request = { instance: 'acc', predictions: { rows, problem: 'single_label_classification' } };
  const { failure } = await host.call('MetricService', 'Update', request);
  assert.equal(failure.kind, 'TypeError');
  assert.match(failure.trace, /node_acc\.js/);
});
