// Owns what happens to a stranger that proved here that it has a token: its proof is checked, the controller commits the
// membership, and the stranger is told which fleet it now belongs to.

import type { ForwardedEntry } from '../../protocols/control.ts';
import { type InviteProof, inviteKeyHash } from '../../protocols/invite-proof.ts';
import type { JoinGrant } from '../../protocols/join.ts';
import { judgeJoin } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import type { ControlLedger } from './control-types.ts';

/** The stranger itself gives up after 30 s. */
const admitTimeoutMs = 25_000;
const inviteArrivalMs = 2_000;
const contactsMax = 64;

/** Who asks to join; the connection has proven the peer id. */
export interface Applicant {
  readonly peer: string;
  readonly proof: InviteProof;
  readonly addresses: readonly string[];
  readonly system: string;
  readonly builderKey: string;
  readonly voterKey: string;
}

/**
 * Makes the applicant a member. A repeated application by the same key is granted again.
 * @throws ParleyError of judgeJoin, and those of reaching the controller.
 */
export async function admitApplicant(
  applicant: Applicant,
  context: {
    readonly ledger: Pick<ControlLedger, 'state' | 'waitFor' | 'genesis'>;
    readonly propose: (entry: ForwardedEntry, signal: AbortSignal) => Promise<void>;
  },
): Promise<JoinGrant> {
  const { ledger, propose } = context;
  const { peer, proof, addresses, system, builderKey, voterKey } = applicant;
  const body = { peer, addresses: [...addresses], system, builderKey, voterKey, proof };
  const signal = AbortSignal.timeout(admitTimeoutMs);
  await inviteArrived(ledger, inviteKeyHash(proof.key));
  judgeJoin(ledger.state(), body);
  await propose({ kind: 'member-joined', body }, signal);
  const state = await ledger.waitFor(({ members }) => members[peer] !== undefined, signal);
  const member = state.members[peer];
  if (member === undefined) throw new Error(`peer '${peer}' vanished from the ledger`);
  return grantOf(member, voterKey, state, ledger.genesis());
}

/** An invite that was opened a moment ago may not have come here yet. */
async function inviteArrived(ledger: Pick<ControlLedger, 'waitFor'>, keyHash: string): Promise<void> {
  const arriving = AbortSignal.timeout(inviteArrivalMs);
  await ledger.waitFor(({ invites }) => Object.hasOwn(invites, keyHash), arriving).catch(() => undefined);
}

/** A peer that joined with another voting key than it has now does not vote with this one before the ledger says so. */
function grantOf(member: Member, voterKey: string, state: LedgerState, genesis: Uint8Array): JoinGrant {
  const isVoter = (each: Member) => each.roles.includes('voter');
  const contacts = Object.values(state.members)
    .filter((each) => each.peer !== member.peer && each.addresses.length > 0)
    .sort((a, b) => Number(isVoter(b)) - Number(isVoter(a)) || (a.name < b.name ? -1 : 1))
    .slice(0, contactsMax)
    .map(({ peer, addresses, raftId }) => ({ peer, addresses, raftId }));
  const { name, site, roles } = member;
  const raftId = member.voterKey === voterKey ? member.raftId : 0;
  return { fleet: state.fleet, genesis, name, site, roles, raftId, contacts };
}
