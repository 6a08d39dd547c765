// Owns the join exchange, both ends of it. The asked member only carries the request to whoever decides; the joining peer
// trusts nobody but the token: the server must have an id that the token names and a ledger that starts as the token says.

import { decode, encode, sha256Hex } from '../../protocols/codec.ts';
import { fromErrorRecord, ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { InviteProof } from '../../protocols/invite-proof.ts';
import {
  type JoinGrant,
  type JoinReply,
  type JoinToken,
  joinProtocol,
  joinReplySchema,
  joinRequestBytesMax,
  joinRequestSchema,
} from '../../protocols/join.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Logger, Mesh, MessageStream } from '../interfaces.ts';
import { cutConnection } from './cut-connection.ts';
import type { Identity } from './identity.ts';
import { createMessageStream } from './streams.ts';
import { inviteKeyOf, peerOfAddress } from './token.ts';

/** A stranger sends its request at once or loses its place. */
const requestTimeoutMs = 10_000;
/** One member of the token: dialling, and the fleet's commit of the entry. */
const attemptTimeoutMs = 30_000;

/** Who asks to join, and with which proof. The peer id is proven by the connection. */
export interface JoinApplication {
  readonly peer: string;
  /** The token's signature of the rest. */
  readonly proof: InviteProof;
  readonly addresses: readonly string[];
  readonly system: string;
  /** Nix public key that it signs with where it becomes a builder. */
  readonly builderKey: string;
  /** Key that it signs certificates with where it becomes a voter. */
  readonly voterKey: string;
}

export interface AdmissionComponents {
  readonly mesh: Pick<Mesh, 'handle'>;
  readonly logger: Logger;
  /**
   * Decides: checks the proof, commits the entry, answers with the grant. A repeated application by the same key is
   * granted again. What it throws is sent to the applicant as an error record.
   */
  readonly admit: (application: JoinApplication) => Promise<JoinGrant>;
}

/** Serves the join protocol. Strangers reach it only while an invite is open (see MeshMembers.joinsOpen). */
export function serveJoins({ mesh, logger, admit }: AdmissionComponents): void {
  async function answer(stream: MessageStream): Promise<JoinReply> {
    try {
      const bytes = await stream.receive({ signal: AbortSignal.timeout(requestTimeoutMs) });
      const request = decode(joinRequestSchema, bytes ?? new Uint8Array(0), joinRequestBytesMax, 'join request');
      const { version: _version, ...wish } = request;
      const grant = await admit({ peer: stream.peer, ...wish });
      logger.info({ peer: stream.peer, name: grant.name, site: grant.site }, 'peer joined');
      return { type: 'granted', grant };
    } catch (error) {
      const record = toErrorRecord(error);
      logger.warn({ peer: stream.peer, code: record.code, reason: record.message }, 'join refused');
      return { type: 'refused', error: record };
    }
  }

  mesh.handle(joinProtocol, async (stream) => stream.send(encode(await answer(stream))), {
    admits: 'anyone',
    messageBytesMax: joinRequestBytesMax,
    inboundStreamsMax: 2,
  });
}

export interface JoinWish {
  readonly token: JoinToken;
  readonly identity: Identity;
  /** Where the mesh of this peer will be dialled, as far as it knows. */
  readonly addresses: readonly string[];
  /** Its Nix system, such as x86_64-linux. */
  readonly system: string;
  /** Nix public key (`name:base64`) that this peer signs with if it becomes a builder. */
  readonly builderKey: string;
  /** The key (a peer id's text form) that this peer signs certificates with if it becomes a voter. */
  readonly voterKey: string;
  readonly signal: AbortSignal;
}

/**
 * Asks the members that the token names, one after another, and checks the answer. Doing it twice is harmless.
 * @throws ParleyError of the fleet's refusal, `wrong-fleet` when an answer does not fit the token, `invite-closed` when the
 * fleet lets no stranger in now, or `peer-unreachable` (retryable) when nobody answered.
 */
export async function joinFleet({
  token,
  identity,
  addresses,
  system,
  builderKey,
  voterKey,
  signal,
}: JoinWish): Promise<JoinGrant> {
  const { createHost, dialAddresses, startHost, stopHost } = await import('./host.ts');
  const allowed = new Set(token.addresses.map(peerOfAddress));
  const gate = { admitsOutbound: (peer: string) => allowed.has(peer), admitsInbound: () => false };
  const host = await createHost({ privateKey: identity.privateKey, listen: [], announce: [], gate });
  const facts = { addresses: [...addresses], system, builderKey, voterKey };
  const proof = inviteKeyOf(token.secret).prove(token.fleet, { peer: identity.peer, ...facts });
  const request = encode({ version: 1, proof, ...facts });
  const failures: JoinFailure[] = [];
  try {
    await startHost(host, []);
    for (const address of token.addresses) {
      const attempt = AbortSignal.any([signal, AbortSignal.timeout(attemptTimeoutMs)]);
      try {
        const connection = await dialAddresses(host, [address], { signal: attempt });
        const stream = await connection.newStream([joinProtocol], { signal: attempt });
        const messages = createMessageStream(stream, {
          peer: peerOfAddress(address),
          messageBytesMax,
          count: () => {},
          onViolation: () => {},
        });
        return await apply(messages, request, token, attempt);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error instanceof ParleyError && !error.retryable) throw error;
        failures.push({ address, error });
      }
    }
  } finally {
    for (const connection of host.getConnections()) cutConnection(connection, new Error('joining is over'));
    await stopHost(host);
  }
  throw failures.some(({ error }) => isHangUp(error)) ? notLetIn(token) : unreachable(failures);
}

interface JoinFailure {
  readonly address: string;
  readonly error: unknown;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : 'no connection');

/** Somebody was there and hung up: the gater lets no stranger in while no invite is open. */
function isHangUp(error: unknown): boolean {
  return /EOF|closed|reset|hung up/i.test(messageOf(error)) && !/ECONNREFUSED/.test(messageOf(error));
}

function notLetIn(token: JoinToken): ParleyError {
  const until = new Date(token.expiresAtMs).toISOString().slice(0, 16).replace('T', ' ');
  return new ParleyError('invite-closed', 'cannot join: the fleet hung up, so it has no open invite', {
    hint: `This one was open until ${until} UTC, and for one peer: it has expired or was used. Ask for a new one.`,
  });
}

function unreachable(failures: readonly JoinFailure[]): ParleyError {
  const texts = failures.map(({ address, error }) => `'${address}': ${messageOf(error)}`);
  return new ParleyError('peer-unreachable', `cannot join: no member of the token answered: ${texts.join('; ')}`, {
    hint: 'Check that one of these members runs and that this device reaches it.',
    retryable: true,
  });
}

async function apply(
  stream: MessageStream,
  request: Uint8Array,
  token: JoinToken,
  signal: AbortSignal,
): Promise<JoinGrant> {
  await stream.send(request);
  const bytes = await stream.receive({ signal });
  if (bytes === undefined) throw new ParleyError('stream-closed', 'it hung up without an answer', { retryable: true });
  const reply = decode(joinReplySchema, bytes, messageBytesMax, 'join reply');
  if (reply.type === 'refused') throw fromErrorRecord(reply.error);
  const { grant } = reply;
  const genesisHash = sha256Hex(grant.genesis);
  if (grant.fleet !== token.fleet || genesisHash !== token.fleet) {
    throw new ParleyError(
      'wrong-fleet',
      `'${stream.peer}' belongs to another fleet: its ledger starts with '${genesisHash}', the token says '${token.fleet}'`,
      { hint: 'Ask for a new invite of the fleet that this device is meant for.' },
    );
  }
  return grant;
}
