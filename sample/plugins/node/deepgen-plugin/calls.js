// ProcessorService and MetricService: a plugin's own functions, between what comes and what goes.
'use strict';

const arrow = require('./arrow');
const { BadRows, PluginError, Status, badRowsMessage, failureMessage } = require('./errors');
const { unary } = require('./unary');

// What a plugin throws is part of the answer; only mistakes in the protocol are statuses.
async function orFailure(work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Status) throw error;
    if (error instanceof BadRows) return { bad_rows: badRowsMessage(error) };
    return { failure: failureMessage(error) };
  }
}

function processorService(instances, payloads) {
  return {
    Process: unary((request, call) =>
      instances.inTurn(request.instance, 'processor', call, (instance) => {
        const columns = arrow.textsOf(payloads.take(request.columns, 'columns'));
        return orFailure(async () => {
          // By field: how many rows lost text. The plugin fills it where that can happen.
          const cut = {};
          const made = await instance.plugin.process(columns, instance, cut);
          const bytes = arrow.fromFeatures(made, instance.fields, columns[0].length, instance.plugin.name);
          return { fields: payloads.give(bytes, request.room), cut };
        });
      }),
    ),
  };
}

function metricService(instances, payloads) {
  // The state that `work` makes, as an answer.
  const state = (name, call, room, read, work) =>
    instances.inTurn(name, 'metric', call, (instance) => {
      const given = read();
      return orFailure(async () => {
        const made = await work(instance, given);
        return { state: payloads.give(arrow.fromState(made), room) };
      });
    });
  return {
    Update: unary(({ instance, predictions, room }, call) => {
      const read = () => {
        const bytes = payloads.take(predictions?.rows, 'predictions');
        return arrow.toPredictions(bytes, predictions.problem, predictions.class_names);
      };
      return state(instance, call, room, read, (made, given) => made.plugin.update(given, made));
    }),
    Merge: unary(({ instance, states, room }, call) => {
      const read = () => states.map((each) => arrow.toState(payloads.take(each, 'state')));
      const merge = (made, given) => (made.plugin.merge ?? arrow.concatenated)(given, made);
      return state(instance, call, room, read, merge);
    }),
    Compute: unary((request, call) =>
      instances.inTurn(request.instance, 'metric', call, (instance) => {
        const given = arrow.toState(payloads.take(request.state, 'state'));
        return orFailure(async () => {
          const scores = await instance.plugin.compute(given, { ...instance, classNames: request.class_names });
          const odd = Object.entries(scores).find(([, value]) => typeof value !== 'number');
          if (odd) throw new PluginError(`compute gave ${JSON.stringify(odd[1])} for '${odd[0]}', which is no number`);
          return { scores: Object.entries(scores).map(([key, value]) => ({ key, value })) };
        });
      }),
    ),
  };
}

module.exports = { processorService, metricService };
