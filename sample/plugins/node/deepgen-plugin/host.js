// The host, which gave this program one end of a socket: a line in, a line out, then it is watched for its end.
'use strict';

const fs = require('node:fs');
const { Worker } = require('node:worker_threads');

const NEWLINE = 10;

// A thread of its own sees the end of the host also while the main thread is busy. Nothing is to be finished then, and
// it kills the whole program: `process.exit` would end the thread only.
const WATCH = `
  const socket = new (require('node:net').Socket)({ fd: require('node:worker_threads').workerData });
  socket.on('error', () => {}).on('close', () => process.kill(process.pid, 'SIGKILL')).resume();
`;

// The host's line: { protocol_versions, token, socket }.
function greeting(fd) {
  const byte = Buffer.alloc(1);
  const line = [];
  while (byte[0] !== NEWLINE) {
    if (fs.readSync(fd, byte, 0, 1, null) === 0) throw new Error('the host is gone');
    line.push(byte[0]);
  }
  return JSON.parse(Buffer.from(line));
}

function say(fd, answer) {
  fs.writeSync(fd, `${JSON.stringify(answer)}\n`);
}

function watch(fd) {
  new Worker(WATCH, { eval: true, workerData: fd }).unref();
}

module.exports = { greeting, say, watch };
