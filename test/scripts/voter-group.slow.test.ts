// The processes of a bench's voters: whoever asks one that dies, or one that is not there, is told.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VoterGroup } from '../../scripts/bench/voter-group.ts';

test('ask() rejects when the voter dies before it answers, and when it does not run', {
  timeout: 60_000,
}, async (t) => {
  const group = await VoterGroup.start(1);
  t.after(() => group.stop());
  const asked = assert.rejects(group.ask(1, { do: 'propose', clients: 1, durationMs: 60_000 }), /voter 1 has ended/);
  await group.kill(1);
  await asked;
  await assert.rejects(group.ask(1, { do: 'status' }), /voter 1 does not run/);
});
