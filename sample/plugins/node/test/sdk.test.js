// What deepgen-plugin/ makes of plugins that are unusual: types, shapes, mistakes, waiting.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { fromState, toState } = require('../deepgen-plugin/arrow');
const { Host, arrow, ipc, texts } = require('./host');

let host;
before(async () => (host = await Host.start(path.join(__dirname, 'odd_plugins'))));
after(() => host.stop());

async function configure(kind, name, more) {
  const request = { instance: name, kind, name, inputs: ['c'], output: 'o', ...more };
  const answer = await host.call('PluginService', 'Configure', request);
  assert.equal(answer.failure, null);
  return answer;
}

const process_ = (instance, values) => host.call('ProcessorService', 'Process', { instance, columns: texts(values) });

test('lists, fixed lists and texts; a field may be left out; what was cut is counted', async () => {
  const made = await configure('PROCESSOR', 'letters', { inputs: ['a', 'b'], options: { most: '2', prefix: '"x"' } });
  assert.deepEqual([made.class_names, made.reference_column], [['no', 'yes'], 'b']);
  assert.deepEqual(
    made.fields.map(({ name, shape, padding, side, length }) => [name, shape, padding, side, length]),
    [
      ['o_codes', 'RAGGED', '0', 'right', true],
      ['o_sizes', 'FIXED', '', '', false],
      ['o_text', 'SCALAR', '', '', false],
      ['o_absent', 'SCALAR', '', '', false],
    ],
  );
  const column = (values) => arrow.vectorFromArray(values, new arrow.Utf8());
  const columns = { arrow: ipc({ a: column(['abc', '', 'é']), b: column(['1', '22', '']) }) };
  const answer = await host.call('ProcessorService', 'Process', { instance: 'letters', columns });
  assert.deepEqual(answer.cut, { o_codes: '1' });
  const rows = arrow
    .tableFromIPC(answer.fields.arrow)
    .toArray()
    .map((row) => row.toJSON());
  assert.deepEqual(
    rows.map(({ o_codes, o_sizes, o_text }) => [[...o_codes], [...o_sizes], o_text]),
    [
      [[97n, 98n], [3, 1], 'abc1'],
      [[], [0, 2], '22'],
      [[233n], [1, 0], 'é'],
    ],
  );
});

test('options of every type describe themselves and are checked', async () => {
  const { plugins } = await host.call('PluginService', 'Describe', {});
  const { options } = plugins.find(({ name }) => name === 'letters');
  assert.deepEqual(
    options.map(({ type, default_json, types, nullable }) => [type, default_json, types[0].kind, nullable]),
    [
      ['whole number', '3', 'INTEGER', false],
      ['number', '1.0', 'NUMBER', false],
      ['true or false', 'false', 'BOOL', false],
      ['one of left, right', '"left"', 'CHOICE', false],
      ['text', 'null', 'TEXT', true],
    ],
  );
  for (const [given, words] of [
    [{ upper: '1' }, /upper: 1 is not true or false/],
    [{ side: '"up"' }, /side: "up" is not one of left, right/],
    [{ most: '0' }, /most: 0 is below the least value, 1/],
    [{ most: '9007199254740993' }, /most: 9007199254740993 is above the greatest value, 9007199254740991/],
    [{ prefix: '1' }, /prefix: 1 is not text/],
    [{ share: '{' }, /share: '\{' is no JSON/],
  ]) {
    const request = { instance: 'n', kind: 'PROCESSOR', name: 'letters', inputs: ['a', 'b'], options: given };
    const { failure } = await host.call('PluginService', 'Configure', request);
    assert.equal(failure.kind, 'SceneError');
    assert.match(failure.message, words);
  }
});

test('what a processor should not give, or throws, is a failure in one line', async () => {
  for (const [name, kind, message] of [
    ['short', 'PluginError', "processor 'short' gave 1 values of 'o' for 2 rows"],
    ['strange', 'PluginError', "processor 'strange' gave 'other', which it does not declare"],
    ['number', 'PluginError', "'1' is given where a text is right"],
    ['broken', 'DataError', 'line one line two'],
    ['silent', 'PluginError', "processor 'silent' gave undefined, not an object with its fields"],
  ]) {
    await configure('PROCESSOR', name);
    const { failure } = await process_(name, ['1', '2']);
    assert.deepEqual([failure.kind, failure.message, failure.trace], [kind, message, '']);
  }
});

test('half a character is no part of the next text', async () => {
  await configure('PROCESSOR', 'halves');
  const answer = await process_('halves', ['1', '2']);
  assert.deepEqual([...arrow.tableFromIPC(answer.fields.arrow).getChild('o')], ['a\ufffd', '\ufffdb']);
});

test('an array of a state is never taken for another type', () => {
  assert.throws(() => fromState({ hit: [0, 2] }), /give numbers as a typed array/);
  assert.throws(() => fromState({ hit: [true, 'no'] }), /give numbers as a typed array/);
  assert.throws(() => fromState({ hit: 5 }), /5 is given where a typed array of numbers is right/);
  assert.deepEqual([...toState(fromState({ hit: [true, false] })).hit], [true, false]);
});

test('bad rows, states and scores of other types are refused in words', async () => {
  await configure('PROCESSOR', 'careless');
  const bad = await process_('careless', ['1']);
  assert.match(bad.failure.message, /a bad row is \{ row, column, value, reason \}/);
  await configure('METRIC', 'loose');
  const scores = arrow.vectorFromArray([[1]], new arrow.FixedSizeList(1, new arrow.Field('item', new arrow.Float32())));
  const predictions = { rows: { arrow: ipc({ scores }) }, problem: 'regression' };
  const update = await host.call('MetricService', 'Update', { instance: 'loose', predictions });
  assert.match(update.failure.message, /1 is given where a typed array of numbers is right/);
  const state = { arrow: ipc({ '': arrow.vectorFromArray([null], new arrow.Null()) }) };
  const compute = await host.call('MetricService', 'Compute', { instance: 'loose', state });
  assert.equal(compute.failure.message, "compute gave \"high\" for 'loose', which is no number");
});

test('calls of one instance come one at a time, of two at the same time', async () => {
  await configure('PROCESSOR', 'slow');
  await configure('PROCESSOR', 'slow', { instance: 'slow too' });
  const ended = [];
  const call = async (instance, time) => {
    const answer = await process_(instance, [time]);
    ended.push(instance + time);
    return [...arrow.tableFromIPC(answer.fields.arrow).getChild('o')];
  };
  const long = call('slow', '600');
  const others = [call('slow', '1'), call('slow too', '2')];
  assert.equal((await host.call('PluginService', 'Probe', {})).ready, true);
  assert.deepEqual(await Promise.all([long, ...others]), [[1n], [1n], [1n]]);
  assert.deepEqual(ended, ['slow too2', 'slow600', 'slow1']);
});

test('a state of every type and shape is what it was, also when states are joined', async () => {
  await configure('METRIC', 'everything');
  const list = (width, type) => new arrow.FixedSizeList(width, new arrow.Field('item', type, true));
  const listed = (type) => new arrow.List(new arrow.Field('item', type, true));
  const utf8 = new arrow.Utf8();
  const columns = {
    row: arrow.vectorFromArray([2n ** 62n, 7n], new arrow.Int64()),
    scores: arrow.vectorFromArray(
      [
        [1, NaN],
        [Infinity, -0],
      ],
      list(2, new arrow.Float32()),
    ),
    texts: arrow.vectorFromArray([['best', 'next'], []], listed(utf8)),
    reference: arrow.vectorFromArray(['é', ''], utf8),
    'column:a:b': arrow.vectorFromArray(['x', 'y\tz'], utf8),
    'vector:q': arrow.vectorFromArray(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      list(3, new arrow.Float64()),
    ),
    'more:half': arrow.vectorFromArray([0.5, -2], new arrow.Float16()),
    'more:cube': arrow.vectorFromArray(
      [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
      ],
      list(4, new arrow.Int32()),
    ),
  };
  const whole = new arrow.Table(columns);
  whole.schema.fields.find(({ name }) => name === 'more:cube').metadata.set('shape', '2,2');
  const rows = { arrow: Buffer.from(arrow.tableToIPC(whole, 'stream')) };
  const predictions = { rows, problem: 'text', class_names: ['a', 'b'] };
  const updated = await host.call('MetricService', 'Update', { instance: 'everything', predictions });
  const merge = { instance: 'everything', states: [updated.state, updated.state] };
  const { state } = await host.call('MetricService', 'Merge', merge);
  const table = arrow.tableFromIPC(state.arrow);
  const found = {};
  for (const { name, metadata } of table.schema.fields) {
    found[name] = [
      metadata.get('shape'),
      [...table.getChild(name).get(0)].slice(0, table.getChild(name).get(0).length / 2),
    ];
  }
  assert.deepEqual(found, {
    rows: ['4', [2n ** 62n, 7n]],
    scores: ['4,2', [1, NaN, Infinity, -0]],
    half: ['4', [0.5, -2]],
    cube: ['4,2,2', [1, 2, 3, 4, 5, 6, 7, 8]],
    vector: ['4,3', [1, 2, 3, 4, 5, 6]],
    best: ['4', ['best', '']],
    reference: ['4', ['é', '']],
    kept: ['4', ['x', 'y\tz']],
    empty: ['4', [false, true]],
    names: ['2,2', [2, NaN]],
  });
  const { scores } = await host.call('MetricService', 'Compute', { instance: 'everything', state, class_names: ['a'] });
  assert.deepEqual(scores, [
    { key: 'sum', value: 2 ** 63 + 14 },
    { key: 'named', value: 1 },
  ]);
});
