// Arrow IPC streams as plain columns and back: texts are arrays, numbers typed arrays with their shape.
'use strict';

const arrow = require('apache-arrow');
const { status } = require('@grpc/grpc-js');
const { PluginError, Status } = require('./errors');

const { DataType, Field, List, RecordBatch, Schema, Utf8, makeData } = arrow;
const TYPES = new Map([
  [Int8Array, arrow.Int8],
  [Int16Array, arrow.Int16],
  [Int32Array, arrow.Int32],
  [BigInt64Array, arrow.Int64],
  [Uint8Array, arrow.Uint8],
  [Uint16Array, arrow.Uint16],
  [Uint32Array, arrow.Uint32],
  [BigUint64Array, arrow.Uint64],
  [Float32Array, arrow.Float32],
  [Float64Array, arrow.Float64],
]);

function read(bytes) {
  let reader;
  try {
    reader = arrow.RecordBatchReader.from(bytes).open();
    const { schema } = reader;
    const batches = reader.readAll();
    if (schema) return batches.length ? new arrow.Table(batches) : new arrow.Table(schema);
  } catch (error) {
    throw new Status(
      status.INVALID_ARGUMENT,
      `a payload of ${bytes.length} bytes is no Arrow IPC stream: ${error.message}`,
    );
  }
  throw new Status(status.INVALID_ARGUMENT, `a payload of ${bytes.length} bytes is no Arrow IPC stream`);
}

function write(fields, children, length) {
  const type = new arrow.Struct(fields);
  const batch = new RecordBatch(new Schema(fields), makeData({ type, length, nullCount: 0, children }));
  const writer = new arrow.RecordBatchStreamWriter();
  writer.write(batch);
  return writer.finish().toUint8Array(true);
}

// Columns of text: an array for each, null where there is no value.
function textsOf(bytes) {
  const table = read(bytes);
  return table.schema.fields.map((_, index) => flat(table.getChildAt(index)));
}

// What a processor gave: a column for each of its fields, in the order in which it gave them.
function fromFeatures(made, declared, rows, name) {
  const fields = [];
  const children = [];
  if (made === null || typeof made !== 'object') {
    throw new PluginError(`processor '${name}' gave ${made}, not an object with its fields`);
  }
  for (const [field, values] of Object.entries(made)) {
    const { dtype, shape } = declared.find((each) => each.name === field) ?? {};
    if (!dtype) throw new PluginError(`processor '${name}' gave '${field}', which it does not declare`);
    if (values.length !== rows) {
      throw new PluginError(`processor '${name}' gave ${values.length} values of '${field}' for ${rows} rows`);
    }
    children.push(shape === undefined || shape === 'SCALAR' ? scalars(values, dtype) : lists([...values], dtype));
    fields.push(new Field(field, children.at(-1).type, true));
  }
  return write(fields, children, rows);
}

function scalars(values, dtype) {
  if (dtype === 'int64') return numbers(values instanceof BigInt64Array ? values : BigInt64Array.from(values, BigInt));
  if (dtype === 'float32') return numbers(values instanceof Float32Array ? values : Float32Array.from(values));
  return texts(values);
}

function lists(rows, dtype) {
  const offsets = new Int32Array(rows.length + 1);
  rows.forEach((row, index) => (offsets[index + 1] = offsets[index] + row.length));
  return listsOf(
    scalars(
      rows.flatMap((row) => [...row]),
      dtype,
    ),
    offsets,
  );
}

function listsOf(child, valueOffsets) {
  const type = new List(new Field('item', child.type, true));
  return makeData({ type, length: valueOffsets.length - 1, nullCount: 0, valueOffsets, child });
}

function numbers(data) {
  const Type = TYPES.get(data?.constructor);
  if (!Type) throw new PluginError(`${data} is given where a typed array of numbers is right`);
  return makeData({ type: new Type(), length: data.length, nullCount: 0, data });
}

function texts(values) {
  const other = values.findIndex((value) => typeof value !== 'string');
  if (other >= 0) throw new PluginError(`'${values[other]}' is given where a text is right`);
  const whole = values.join('');
  let data = Buffer.from(whole);
  const plain = data.length === whole.length;
  // Each by itself: halves of a character at the end of one and the beginning of the next are no character.
  if (!plain) data = Buffer.concat(values.map((value) => Buffer.from(value)));
  const valueOffsets = new Int32Array(values.length + 1);
  for (let row = 0; row < values.length; row++) {
    valueOffsets[row + 1] = valueOffsets[row] + (plain ? values[row].length : Buffer.byteLength(values[row]));
  }
  return makeData({ type: new Utf8(), length: values.length, nullCount: 0, valueOffsets, data });
}

// An array of a state that is no typed one.
function words(values) {
  if (values.every((value) => typeof value === 'boolean')) return booleans(values);
  if (values.every((value) => typeof value === 'string')) return texts(values);
  throw new PluginError('an array of a state has texts, or true and false; give numbers as a typed array');
}

function booleans(values) {
  const data = new Uint8Array((values.length + 7) >> 3);
  values.forEach((value, row) => value && (data[row >> 3] |= 1 << (row & 7)));
  return makeData({ type: new arrow.Bool(), length: values.length, nullCount: 0, data });
}

// A metric's state: an array by name, of numbers (typed), texts or booleans. Shapes travel as metadata.
function fromState(state) {
  const fields = [];
  const children = [];
  for (const [name, values] of Object.entries(state ?? {})) {
    const data = Array.isArray(values) ? words(values) : numbers(values);
    children.push(listsOf(data, Int32Array.of(0, values.length)));
    const shape = (values.shape ?? [values.length]).join(',');
    fields.push(new Field(name, children.at(-1).type, true, new Map([['shape', shape]])));
  }
  if (fields.length) return write(fields, children, 1);
  return write([new Field('', new arrow.Null(), true)], [makeData({ type: new arrow.Null(), length: 1 })], 1);
}

function toState(bytes) {
  const table = read(bytes);
  if (table.numRows !== 1) throw new Status(status.INVALID_ARGUMENT, `a state has ${table.numRows} rows, not one`);
  const state = {};
  table.schema.fields.forEach((field, index) => {
    // A state without arrays has one column without a name.
    if (!DataType.isNull(field.type)) state[field.name] = shaped(flat(table.getChildAt(index).get(0)), field);
  });
  return state;
}

// A model's answers by what they are; what is not known is left out.
function toPredictions(bytes, problem, classNames) {
  const table = read(bytes);
  const found = { problem, classNames, columns: {}, vectors: {}, more: {} };
  const groups = { 'column:': 'columns', 'vector:': 'vectors', 'more:': 'more' };
  const names = { row: 'rows', scores: 'scores', texts: 'texts', label: 'labels', reference: 'references' };
  table.schema.fields.forEach((field, index) => {
    const column = table.getChildAt(index);
    const prefix = Object.keys(groups).find((each) => field.name.startsWith(each));
    if (prefix) found[groups[prefix]][field.name.slice(prefix.length)] = values(column, field);
    else if (names[field.name]) found[names[field.name]] = values(column, field);
  });
  found.rows ??= BigInt64Array.from({ length: table.numRows }, (_, row) => BigInt(row));
  return found;
}

function values(column, field) {
  if (DataType.isFixedSizeList(field.type)) {
    return shaped(flat(column.getChildAt(0)), field, [column.length, -1], field.type.listSize);
  }
  if (DataType.isList(field.type)) return [...column].map((each) => each && flat(each));
  return shaped(flat(column), field, [column.length]);
}

function flat(vector) {
  const { type } = vector;
  if (DataType.isUtf8(type) || DataType.isLargeUtf8(type)) return vector.data.flatMap(strings);
  if (DataType.isFloat(type) && type.ArrayType === Uint16Array) return Float32Array.from(vector);
  return DataType.isInt(type) || DataType.isFloat(type) ? vector.toArray() : [...vector];
}

// Arrow's own decoder drops a byte order mark at the beginning of a text, and is slow: plain ASCII is decoded once.
function strings(chunk) {
  const { values, valueOffsets: ends, length, nullCount } = chunk;
  const bytes = Buffer.from(values.buffer, values.byteOffset, Number(ends[length]));
  const whole = bytes.toString();
  const plain = whole.length === bytes.length;
  const texts = new Array(length);
  for (let row = 0, end = Number(ends[0]); row < length; row++) {
    const begin = end;
    end = Number(ends[row + 1]);
    if (nullCount && !chunk.getValid(row)) texts[row] = null;
    else texts[row] = plain ? whole.slice(begin, end) : bytes.toString('utf8', begin, end);
  }
  return texts;
}

// Gives the shape that the metadata say: of a row where `rows` are given, else of the whole array.
function shaped(array, field, rows, width) {
  const said = field.metadata.get('shape');
  const own = said ? said.split(',').map(Number) : null;
  let shape = own ?? [array.length];
  if (rows) shape = rows.length === 1 ? rows : [rows[0], ...(own ?? [width])];
  return Object.assign(array, { shape });
}

// States one behind the other, as DeepGen does for a metric without `merge`.
function concatenated(states) {
  const whole = {};
  for (const name of Object.keys(states[0] ?? {})) {
    const parts = states.map((state) => state[name]);
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const all = Array.isArray(parts[0]) ? parts.flat() : new parts[0].constructor(length);
    if (!Array.isArray(all)) parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    const rows = parts.reduce((sum, part) => sum + part.shape[0], 0);
    whole[name] = Object.assign(all, { shape: [rows, ...parts[0].shape.slice(1)] });
  }
  return whole;
}

module.exports = { textsOf, fromFeatures, fromState, toState, toPredictions, concatenated };
