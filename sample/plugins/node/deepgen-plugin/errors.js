// What can go wrong: mistakes of a plugin, which are part of the answer, and mistakes in the protocol: statuses.
'use strict';

// Bytes of a payload, or of what is said, in a message.
const LARGEST = 64 * (1 << 20);

// A mistake that the user can mend, or a failure of the run; the message is one line: what was given, where, what would
// be right. Any other exception is a failure of the run too, under its own name.
class Failure extends Error {
  get name() {
    return this.constructor.name;
  }
}
class SceneError extends Failure {}
class DataError extends Failure {}
class PluginError extends Failure {}
class RunError extends Failure {}

// Every row that a processor cannot read: { row, column, value, reason }, such as "is not a whole number".
class BadRows extends Error {
  constructor(rows) {
    const whole = ({ row, column, value, reason }) =>
      Number.isInteger(row) && [column, value, reason].every((text) => typeof text === 'string');
    if (!rows.every(whole)) throw new TypeError('a bad row is { row, column, value, reason }, a number and texts');
    super(`${rows.length} bad rows`);
    this.rows = rows;
  }
}

// A mistake in the protocol; `code` is one of grpc.status.
class Status extends Error {
  constructor(code, details) {
    super(details);
    this.code = code;
    this.details = details;
  }
}

// The bad rows of an answer, as many as a message holds: the others are found when the rest is sent again.
function badRowsMessage({ rows }) {
  let size = 0;
  const ordered = [...rows].sort((one, other) => one.row - other.row);
  const over = ordered.findIndex(({ column, value, reason }) => {
    size += Buffer.byteLength(`${column}${value}${reason}`) + 32;
    return size > LARGEST;
  });
  return { rows: over > 0 ? ordered.slice(0, over) : ordered };
}

// An exception as the message Failure.
function failureMessage(error) {
  return {
    kind: error?.name || 'Error',
    message: String(error?.message ?? error).replace(/\s*\n\s*/g, ' '),
    trace: error instanceof Failure ? '' : String(error?.stack ?? ''),
  };
}

module.exports = { SceneError, DataError, PluginError, RunError, BadRows, Status, badRowsMessage, failureMessage };
