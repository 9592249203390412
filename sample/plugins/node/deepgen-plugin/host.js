// The host, which started this program and gave it one end of a socket: a line in, a line out, then watched for its end.
'use strict';

const fs = require('node:fs');
const { Worker } = require('node:worker_threads');

// A thread of its own sees the end of the host while the main thread is busy. Nothing is to be finished then: the kernel
// kills the program on the spot, as `process.exit` in a thread would end that thread only.
const WATCH = `
  const socket = new (require('node:net').Socket)({ fd: require('node:worker_threads').workerData });
  socket.on('error', () => {}).on('close', () => process.kill(process.pid, 'SIGKILL')).resume();
`;

// The host's line: { protocol_versions, token, socket }.
function greeting(fd) {
  const byte = Buffer.alloc(1);
  let line = '';
  while (fs.readSync(fd, byte, 0, 1, null) === 1) {
    if (byte[0] === 10) return JSON.parse(line);
    line += byte.toString('latin1');
  }
  return process.exit(1);
}

function say(fd, answer) {
  fs.writeSync(fd, `${JSON.stringify(answer)}\n`);
}

function watch(fd) {
  new Worker(WATCH, { eval: true, workerData: fd }).unref();
}

module.exports = { greeting, say, watch };
