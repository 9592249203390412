// A call with one answer, from a function of its request.
'use strict';

const { status } = require('@grpc/grpc-js');
const { Status } = require('./errors');

function unary(answer) {
  return async (call, callback) => {
    try {
      callback(null, await answer(call.request, call));
    } catch (error) {
      if (error instanceof Status) return callback(error);
      console.error(error);
      callback({ code: status.INTERNAL, details: String(error?.message ?? error) });
    }
  };
}

module.exports = { unary };
