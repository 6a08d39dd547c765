// Owns what happens to a stranger that showed a token here: the secret is looked up, the controller commits the membership,
// and the stranger is told which fleet it now belongs to.

import { sha256Hex } from '../../protocols/codec.ts';
import type { ForwardedEntry } from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { JoinGrant } from '../../protocols/join.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import type { ControlLedger } from './control-types.ts';

/** The stranger itself gives up after 30 s. */
const admitTimeoutMs = 25_000;
const inviteArrivalMs = 2_000;
const contactsMax = 64;

/** Who asks to join; the connection has proven the peer id. */
export interface Applicant {
  readonly peer: string;
  readonly secret: Uint8Array;
  readonly addresses: readonly string[];
  readonly system: string;
  readonly voterKey: string;
}

/**
 * Makes the applicant a member. A repeated application by the same key is granted again.
 * @throws ParleyError `invite-unknown`, `invite-used`, `invite-expired`, `name-taken`, and those of reaching the controller.
 */
export async function admitApplicant(
  applicant: Applicant,
  context: {
    readonly ledger: Pick<ControlLedger, 'state' | 'waitFor' | 'genesis'>;
    readonly propose: (entry: ForwardedEntry, signal: AbortSignal) => Promise<void>;
  },
): Promise<JoinGrant> {
  const { ledger, propose } = context;
  const { peer, secret, addresses, system, voterKey } = applicant;
  const secretHash = sha256Hex(secret);
  const signal = AbortSignal.timeout(admitTimeoutMs);
  await inviteArrived(ledger, secretHash);
  checkInvite(ledger.state(), secretHash);
  const body = { peer, addresses: [...addresses], system, voterKey, secretHash };
  await propose({ kind: 'member-joined', body }, signal);
  const state = await ledger.waitFor(({ members }) => members[peer] !== undefined, signal);
  const member = state.members[peer];
  if (member === undefined) throw new Error(`peer '${peer}' vanished from the ledger`);
  return grantOf(member, state, ledger.genesis());
}

/** An invite that was opened a moment ago may not have come here yet. */
async function inviteArrived(ledger: Pick<ControlLedger, 'waitFor'>, secretHash: string): Promise<void> {
  const arriving = AbortSignal.timeout(inviteArrivalMs);
  await ledger.waitFor(({ invites }) => Object.hasOwn(invites, secretHash), arriving).catch(() => undefined);
}

/** Guesses never reach the ledger: what is refused there would still fill it. @throws ParleyError `invite-unknown`. */
export function checkInvite(state: LedgerState, secretHash: string): void {
  if (Object.hasOwn(state.invites, secretHash)) return;
  throw new ParleyError('invite-unknown', 'the fleet knows no such invite', {
    hint: 'Ask for a new invite and join with its token.',
  });
}

function grantOf(member: Member, state: LedgerState, genesis: Uint8Array): JoinGrant {
  const isVoter = (each: Member) => each.roles.includes('voter');
  const contacts = Object.values(state.members)
    .filter((each) => each.peer !== member.peer && each.addresses.length > 0)
    .sort((a, b) => Number(isVoter(b)) - Number(isVoter(a)) || (a.name < b.name ? -1 : 1))
    .slice(0, contactsMax)
    .map(({ peer, addresses, raftId }) => ({ peer, addresses, raftId }));
  const { name, site, roles, raftId } = member;
  return { fleet: state.fleet, genesis, name, site, roles, raftId, contacts };
}
