// Where a payload is: in the message, in memory that the host shares, or put aside in parts.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const { status } = require('@grpc/grpc-js');
const { Status } = require('./errors');

const MIB = 1 << 20;
const SHARED_FROM = MIB;
const INLINE_UP_TO = 64 * MIB;
const PIECE = 4 * MIB;
// A payload that nobody asks for again is dropped after so many milliseconds.
const KEPT = 10 * 60 * 1000;
// The host's memory has such a path, which leads to memory; no other file is opened for it.
const PATH = /^\/proc\/[0-9]+\/fd\/[0-9]+$/;
const MEMORY = /^\/(memfd:|dev\/shm\/)/;

class Payloads {
  constructor() {
    this.aside = new Map();
  }

  // The bytes of a payload. One that was put aside is forgotten by that.
  take(payload, what) {
    if (payload?.place === 'arrow') return payload.arrow;
    if (payload?.place === 'shared') return readShared(payload.shared);
    if (payload?.place === 'parts') return Buffer.concat(this.pieces(payload.parts));
    throw new Status(status.INVALID_ARGUMENT, `the call has no ${what}`);
  }

  // A payload of the answer, in the room for it where it is large and fits.
  give(bytes, room) {
    if (bytes.length >= SHARED_FROM && room?.path && bytes.length <= Number(room.length)) {
      const offset = Number(room.offset);
      writeShared(room.path, offset, bytes);
      return { shared: { path: room.path, offset, length: bytes.length } };
    }
    return bytes.length <= INLINE_UP_TO ? { arrow: bytes } : { parts: this.keep([bytes]) };
  }

  keep(pieces) {
    const key = crypto.randomUUID();
    const timer = setTimeout(() => this.aside.delete(key), KEPT).unref();
    this.aside.set(key, { pieces, timer });
    return key;
  }

  pieces(key) {
    const kept = this.aside.get(key);
    if (!kept) throw new Status(status.NOT_FOUND, `there is no payload '${key}'`);
    clearTimeout(kept.timer);
    this.aside.delete(key);
    return kept.pieces;
  }

  // PluginService.Put
  put(call, callback) {
    const pieces = [];
    call.on('data', ({ data }) => pieces.push(data));
    call.on('end', () => callback(null, { key: this.keep(pieces) }));
  }

  // PluginService.Get
  async get(call) {
    try {
      const bytes = Buffer.concat(this.pieces(call.request.key));
      for (let at = 0; at < bytes.length && !call.cancelled; at += PIECE) {
        if (!call.write({ data: bytes.subarray(at, at + PIECE) })) await writable(call);
      }
      call.end();
    } catch (error) {
      call.emit('error', error);
    }
  }
}

function writable(call) {
  return new Promise((resolve) => {
    call.once('drain', resolve);
    call.once('cancelled', resolve);
  });
}

function open(path, flags) {
  try {
    if (PATH.test(path) && MEMORY.test(fs.readlinkSync(path))) return fs.openSync(path, flags);
  } catch (error) {
    throw new Status(status.FAILED_PRECONDITION, `shared memory cannot be opened: ${error.message}`);
  }
  throw new Status(status.INVALID_ARGUMENT, `'${path}' is no shared memory`);
}

function readShared({ path, offset, length }) {
  const file = open(path, 'r');
  try {
    const bytes = Buffer.from(new ArrayBuffer(Number(length)));
    for (let done = 0; done < bytes.length;) {
      const got = fs.readSync(file, bytes, done, bytes.length - done, Number(offset) + done);
      if (!got) throw new Status(status.INVALID_ARGUMENT, `shared memory ends after ${done} of ${length} bytes`);
      done += got;
    }
    return bytes;
  } finally {
    fs.closeSync(file);
  }
}

function writeShared(path, offset, bytes) {
  const file = open(path, 'r+');
  try {
    for (let done = 0; done < bytes.length;) {
      done += fs.writeSync(file, bytes, done, bytes.length - done, offset + done);
    }
  } finally {
    fs.closeSync(file);
  }
}

module.exports = { Payloads, readShared };
