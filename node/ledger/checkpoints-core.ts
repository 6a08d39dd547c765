// Owns checkpoints in the state: one is begun at an entry, where every peer keeps its state, and made by a later entry that
// says what that state's hash is. Comparing it with the own hash is the business of whoever signs.

import { type Handler, refusal } from './state-core.ts';

export const checkpointBegun: Handler<'checkpoint-begun'> = (state, _body, meta) => ({
  state: { ...state, checkpointBegun: meta.index },
});

export const checkpointMade: Handler<'checkpoint-made'> = (state, body, meta) => {
  if (state.checkpointBegun === 0 || body.index !== state.checkpointBegun) {
    throw refusal(
      'checkpoint-unknown',
      `no checkpoint was begun at entry ${body.index} that a later one did not replace`,
    );
  }
  return { state: { ...state, checkpointIndex: body.index, checkpointBegun: 0, checkpointMade: meta.index } };
};
