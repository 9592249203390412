// What plugins declare is looked at before they are served.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { check } = require('../deepgen-plugin/declared');

const nothing = () => {};
const processor = { kind: 'processor', name: 'mood', summary: 'Moods.', fields: nothing, process: nothing };
const scoring = { keys: nothing, update: nothing, compute: nothing };
const metric = { kind: 'metric', name: 'm', summary: 'M.', fits: ['text'], ...scoring };
const option = (more) => {
  const good = { type: 'text', default: 'good', help: 'A word.', ...more };
  return { ...processor, options: { good } };
};

test('what is right is taken', () => {
  const choice = { type: ['a', 'b'], default: 'a' };
  check([processor, metric, option(), option({ default: null }), option(choice), { ...processor, columns: [1, 2] }]);
});

for (const [plugin, words] of [
  [undefined, /^plugin : its kind is one of processor, metric/],
  [{ ...metric, kind: 'outputter' }, /^outputter m: its kind is one of processor, metric/],
  [{ ...processor, name: 'my mood' }, /^processor my mood: its name is letters, digits and _/],
  [{ ...processor, name: undefined }, /its name is letters/],
  [{ ...processor, summary: undefined }, /^processor mood: it has no summary/],
  [{ ...processor, process: undefined }, /^processor mood: it has no function 'process'/],
  [{ ...metric, keys: ['m'] }, /^metric m: it has no function 'keys'/],
  [{ ...processor, columns: 1 }, /columns is \[least, most\]/],
  [{ ...metric, fits: undefined }, /fits names the problems that it scores/],
  [option({ type: 'string' }), /option good: its type is one of integer, .*, text, or an array .*, not 'string'/],
  [option({ help: undefined }), /option good: it has no help/],
  [option({ default: undefined }), /option good: it has no default; null is one/],
  [option({ default: 3 }), /option good: its default 3 is not text/],
]) {
  test(`${words} is said`, () => assert.throws(() => check([processor, plugin]), { message: words }));
}
