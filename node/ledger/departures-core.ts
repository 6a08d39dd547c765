// Owns what becomes of the work that names a host when its peer leaves the fleet: nobody waits for it any more, and each
// task says why.

import { isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import { leaveOut } from './builds-core.ts';
import { putTasks } from './state-core.ts';
import { dropRecords } from './tables-core.ts';
import { ended, reason, settle } from './tasks-core.ts';

/** The state without a member's orders, reports and invites; what was to happen on its host has ended. */
export function withoutWorkOf(state: LedgerState, { peer, name }: Member): LedgerState {
  const gone = `${name} was removed from the fleet`;
  let next = leaveOut(state, name, gone);
  for (const { id, parent } of Object.values(next.tasks)) {
    const child = next.tasks[id];
    if (child === undefined || child.type !== 'deploy-device' || child.host !== name || !isOpen(child)) continue;
    const isOut = child.order !== null;
    const text = isOut ? `${gone} while its order was out: nobody can tell what came of it` : gone;
    next = putTasks(next, ended(next, child, isOut ? 'unknown' : 'cancelled', reason('other', text)));
    next = settle(next, parent);
  }
  next = dropRecords(dropRecords(next, 'orders', [name]), 'devices', [name]);
  const invites = Object.entries(next.invites).filter(([, invite]) => invite.usedBy === peer || invite.name === name);
  return dropRecords(
    next,
    'invites',
    invites.map(([hash]) => hash),
  );
}
