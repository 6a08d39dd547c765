// What a proposal is answered with on the controller, also where its entry was never seen being applied.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProposals } from '../../node/ledger/proposals.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import { createLedgerScript, hash } from '../helpers/ledger-script.ts';

test('propose() answers with what the command came to where a snapshot has taken the place of its entry', async () => {
  const script = createLedgerScript();
  const { propose } = createProposals({
    clock: { nowMs: () => script.state().timeMs },
    state: script.state,
    consensus: () => ({
      async propose(data) {
        script.applyData(data);
        return { index: script.state().index };
      },
      committedEntries: async () => [],
      compact: async () => undefined,
    }),
  });
  const body = { keyHash: hash('s'), name: 'web1', site: 'home', roles: ['member' as const], expiresAtMs: 2e12 };
  const draft: EntryDraft = { kind: 'invite-opened', body, actor: 'root@n1' };
  const { signal } = new AbortController();
  const { index, result } = await propose({ ...draft, commandId: 'command-1' }, { signal });
  assert.deepEqual([result.index, result.error], [index, null]);
  await assert.rejects(propose({ ...draft, commandId: 'command-2' }, { signal }), { code: 'invite-exists' });
  await assert.rejects(propose(draft, { signal }), { code: 'outcome-unknown', retryable: true });
});
