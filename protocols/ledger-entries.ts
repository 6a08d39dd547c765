// Owns the ledger's entries: the envelope and each kind's body. Entries are facts in the past tense, proposed by the
// controller and applied alike by every peer. The envelope and the kinds marked "frozen" keep their form for ever, so that
// an old device can always be updated; a peer skips kinds that it does not know.

import * as v from 'valibot';
import { check, decode, encode } from './codec.ts';
import { ParleyError } from './errors.ts';
import { generationRecordSchema } from './generation.ts';
import { inviteProofSchema } from './invite-proof.ts';
import { entryBytesMax, membersMax } from './limits.ts';
import { outcomeSchema } from './outcome.ts';
import { policySchema } from './policy.ts';
import {
  actorSchema,
  addressSchema,
  bytesSchema,
  commandIdSchema,
  countSchema,
  drvPathSchema,
  hashSchema,
  nameSchema,
  peerIdSchema,
  revisionSchema,
  roleSchema,
  siteSchema,
  storePathSchema,
  taskIdSchema,
  textSchema,
  timeMsSchema,
} from './primitives.ts';

const addressesSchema = v.pipe(v.array(addressSchema), v.maxLength(16));
const rolesSchema = v.pipe(v.array(roleSchema), v.minLength(1), v.maxLength(4));
/** Nix public key `name:base64` of a builder. */
export const nixPublicKeySchema = v.pipe(
  v.string(),
  v.maxLength(256),
  v.regex(/^[A-Za-z0-9._-]+:[A-Za-z0-9+/]{43}=$/, 'expected a Nix public key'),
);
/** A Nix system such as x86_64-linux. */
export const systemSchema = v.pipe(
  v.string(),
  v.maxLength(32),
  v.regex(/^[a-z0-9_]+-[a-z]+$/, 'expected a Nix system'),
);
/** Hosts by name, each once. */
const hostNamesSchema = v.pipe(v.array(nameSchema), v.maxLength(membersMax));

export const memberFactsSchema = v.object({
  peer: peerIdSchema,
  addresses: addressesSchema,
  system: systemSchema,
  /** Present while the peer has the role builder. */
  builderKey: v.optional(nixPublicKeySchema),
  /** The key that a voter signs certificates with. A new one makes it a new voter with a raft id of its own; absent leaves it as it is. */
  voterKey: v.optional(peerIdSchema),
});
export type MemberFacts = v.InferOutput<typeof memberFactsSchema>;

/** Body of each kind. A new kind or a new field needs a higher ledger level before anyone proposes it. */
export const entryBodySchemas = {
  /** Entry 1; its hash is the fleet's id. Frozen. */
  'fleet-founded': v.object({
    level: v.literal(1),
    nonce: bytesSchema,
    recoveryKey: v.pipe(v.string(), v.maxLength(128)),
    founder: v.object({
      ...memberFactsSchema.entries,
      voterKey: peerIdSchema,
      name: nameSchema,
      site: siteSchema,
      roles: rolesSchema,
    }),
  }),
  'invite-opened': v.object({
    /** SHA-256 of the public half of the invite's key. */
    keyHash: hashSchema,
    name: nameSchema,
    site: siteSchema,
    roles: rolesSchema,
    expiresAtMs: timeMsSchema,
  }),
  /** `proof` names the invite. A member that joins again with its own changes nothing. Frozen. */
  'member-joined': v.object({ ...memberFactsSchema.entries, proof: inviteProofSchema }),
  /** A member's own new addresses, system or keys. Frozen. */
  'member-updated': memberFactsSchema,
  /** The member is to vote as well, once it has caught up; then `replaces` votes no more. */
  'voter-added': v.object({ peer: peerIdSchema, replaces: v.nullable(peerIdSchema) }),
  /** The member goes on without a vote. */
  'voter-removed': v.object({ peer: peerIdSchema }),
  /** The peer is no member any more, in force wherever this is applied. Frozen. */
  'member-removed': v.object({ peer: peerIdSchema }),
  /** Every peer keeps the state as it is after this entry: a checkpoint of it follows. Frozen. */
  'checkpoint-begun': v.object({}),
  /** The SHA-256 of the state after the `checkpoint-begun` at `index`; its certificate says that a majority found the same. Frozen. */
  'checkpoint-made': v.object({ index: countSchema, stateHash: hashSchema }),
  /** The first entry of a generation, just after its base. Frozen. */
  'generation-begun': generationRecordSchema,
  /** `previous` is the hash of the draft that this one replaces, so that nobody's draft is lost unseen. */
  'draft-staged': v.object({
    base: v.nullable(revisionSchema),
    previous: v.nullable(hashSchema),
    /** Git tree id of the draft. */
    tree: revisionSchema,
    /** Blob: a git pack of the objects that base lacks. */
    pack: hashSchema,
    files: v.pipe(
      v.array(
        v.object({ path: v.pipe(v.string(), v.maxLength(512)), change: v.picklist(['added', 'modified', 'deleted']) }),
      ),
      v.maxLength(64),
    ),
    fileCount: countSchema,
  }),
  'draft-discarded': v.object({}),
  /** The git commit is a pure function of this entry and the draft that it names. */
  'commit-intended': v.object({ draft: hashSchema, message: textSchema }),
  'commit-recorded': v.object({ task: taskIdSchema, revision: revisionSchema }),
  'update-requested': v.object({ inputs: v.pipe(v.array(v.pipe(v.string(), v.maxLength(128))), v.maxLength(64)) }),
  'build-requested': v.object({ revision: revisionSchema, selector: textSchema, hosts: hostNamesSchema }),
  'deploy-requested': v.object({
    revision: revisionSchema,
    selector: textSchema,
    hosts: hostNamesSchema,
    keepGoing: v.boolean(),
  }),
  'rollback-requested': v.object({
    host: nameSchema,
    closure: storePathSchema,
    manifest: hashSchema,
    plan: hashSchema,
  }),
  /** `evaluation` names a blob: the drvPath or the error of each host and the commit's parley output. */
  'evaluation-finished': v.object({
    task: taskIdSchema,
    attempt: countSchema,
    evaluation: hashSchema,
    builder: peerIdSchema,
  }),
  /** A host that cannot be evaluated or built. It fails alone where the deploy goes on. */
  'host-failed': v.object({
    task: taskIdSchema,
    attempt: countSchema,
    host: nameSchema,
    stage: v.picklist(['evaluate', 'build']),
    reason: textSchema,
  }),
  'build-started': v.object({
    task: taskIdSchema,
    attempt: countSchema,
    drvPath: drvPathSchema,
    hosts: hostNamesSchema,
    builder: peerIdSchema,
  }),
  'build-finished': v.object({
    task: taskIdSchema,
    attempt: countSchema,
    drvPath: drvPathSchema,
    closure: storePathSchema,
    manifest: hashSchema,
  }),
  'build-failed': v.object({ task: taskIdSchema, attempt: countSchema, drvPath: drvPathSchema, reason: textSchema }),
  /** `plan` is the hash of the plan blob. Hosts left out are those without anything to do or that failed before. */
  'plan-made': v.object({
    task: taskIdSchema,
    attempt: countSchema,
    plan: hashSchema,
    revision: revisionSchema,
    hosts: hostNamesSchema,
    unchanged: hostNamesSchema,
    changesPolicy: v.boolean(),
  }),
  'approval-given': v.object({
    task: taskIdSchema,
    plan: hashSchema,
    verdict: v.picklist(['approve', 'reject']),
    reason: v.optional(textSchema),
    /** An operator's own signature over the plan hash, for hosts that ask for one. */
    signature: v.optional(bytesSchema),
  }),
  /** One instruction to one device. Frozen. */
  'order-given': v.object({
    task: taskIdSchema,
    host: nameSchema,
    slot: v.literal('system'),
    plan: hashSchema,
    closure: storePathSchema,
    manifest: hashSchema,
  }),
  /** Frozen. */
  'order-cancelled': v.object({ task: taskIdSchema, host: nameSchema, order: countSchema }),
  /** What a device's journal says, at its sequence number. */
  'device-reported': v.object({
    peer: peerIdSchema,
    incarnation: countSchema,
    sequence: countSchema,
    running: v.nullable(storePathSchema),
    booted: v.nullable(storePathSchema),
    /** Set when a person must look at the device: it accepts no order any more. */
    alarm: v.optional(textSchema),
    /** Set when the report ends an order. */
    ended: v.optional(
      v.object({
        order: countSchema,
        outcome: outcomeSchema,
        reason: v.nullable(textSchema),
        failedUnits: v.pipe(v.array(v.pipe(v.string(), v.maxLength(256))), v.maxLength(64)),
        simulated: v.boolean(),
      }),
    ),
  }),
  'policy-adopted': policySchema,
  'task-finished': v.object({
    task: taskIdSchema,
    attempt: countSchema,
    outcome: outcomeSchema,
    reason: v.nullable(textSchema),
  }),
  'task-aborted': v.object({ task: taskIdSchema }),
  'task-retried': v.object({ task: taskIdSchema }),
  /** All voters understand the level from here on. A voter that does not stops applying and says so. Frozen. */
  'level-raised': v.object({ level: countSchema }),
  'notice-delivered': v.object({ notice: countSchema, sink: v.pipe(v.string(), v.maxLength(32)) }),
} as const;

export type EntryKind = keyof typeof entryBodySchemas;
export type EntryBody<K extends EntryKind> = v.InferOutput<(typeof entryBodySchemas)[K]>;

/** The frozen envelope. `timeMs` is the controller's clock, never decreasing; applying reads no other clock. */
const envelopeSchema = v.object({
  version: v.literal(1),
  kind: v.pipe(v.string(), v.maxLength(64)),
  timeMs: timeMsSchema,
  actor: actorSchema,
  commandId: v.optional(commandIdSchema),
  body: v.unknown(),
});

type Envelope<K extends EntryKind> = {
  readonly version: 1;
  readonly kind: K;
  readonly timeMs: number;
  /** The operator, `root@host`, or `controller` for what the controller does by itself. */
  readonly actor: string;
  readonly commandId?: string | undefined;
  readonly body: EntryBody<K>;
};
/** One ledger entry, told apart by `kind`. */
export type LedgerEntry = { [K in EntryKind]: Envelope<K> }[EntryKind];
/** What a proposer hands in; the ledger adds version and time. */
export type EntryDraft = {
  [K in EntryKind]: {
    readonly kind: K;
    readonly actor: string;
    readonly commandId?: string | undefined;
    readonly body: EntryBody<K>;
  };
}[EntryKind];

export function encodeEntry(entry: LedgerEntry): Uint8Array {
  return encode(entry);
}

/**
 * Decodes one entry of the ledger.
 * @returns undefined for a kind that this release does not know.
 * @throws ParleyError `malformed` or `too-large`.
 */
export function decodeEntry(bytes: Uint8Array): LedgerEntry | undefined {
  const envelope = decode(envelopeSchema, bytes, entryBytesMax, 'ledger entry');
  if (!Object.hasOwn(entryBodySchemas, envelope.kind)) return undefined;
  const kind = envelope.kind as EntryKind;
  const body = check(entryBodySchemas[kind] as v.GenericSchema<unknown, unknown>, envelope.body, `body of '${kind}'`);
  return { ...envelope, kind, body } as LedgerEntry;
}

/**
 * What a committed entry says; undefined for an empty one and one that nobody can read: of a newer release, or of no controller
 * of ours. All peers skip these alike.
 */
export function readEntry(bytes: Uint8Array): LedgerEntry | undefined {
  if (bytes.byteLength === 0) return undefined;
  try {
    return decodeEntry(bytes);
  } catch (error) {
    if (error instanceof ParleyError) return undefined;
    throw error;
  }
}
