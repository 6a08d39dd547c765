// Owns every limit of a message or record, each with its reason. A limit is checked where the bytes come in.

/** One ledger entry: small enough that replication never delays a heartbeat (design §3). */
export const entryBytesMax = 64 * 1024;
/** One framed message on a control stream: an entry batch or a page of records, with room for the envelope. */
export const messageBytesMax = 1024 * 1024;
/** One blob (draft pack, plan, manifest): kept whole in memory once while it is checked. */
export const blobBytesMax = 64 * 1024 * 1024;
/** Blobs on one voter that nothing names, of one peer that brought them: eight of the largest, and far from a disk's size. */
export const unnamedBlobBytesPerPeerMax = 8 * blobBytesMax;
/** The same of all peers together. */
export const unnamedBlobBytesMax = 4 * unnamedBlobBytesPerPeerMax;
/** Bytes a sender may have outstanding on one stream: below libp2p's 4 MiB read buffer, which resets streams when it overflows. */
export const streamCreditBytes = 2 * 1024 * 1024;
/** Members of a fleet: a bound for every per-peer table. */
export const membersMax = 2_000;
/** Voters of a fleet (design §5). */
export const votersMax = 7;
/** Open invites at once: each is a small ledger record until it expires. */
export const invitesMax = 256;
/** Characters of a commit message, a reason, a notice: chat platforms cut at about this length. */
export const textCharactersMax = 2_000;
/** Characters of a log line kept of an external program; the rest of the line is cut and marked. */
export const logLineCharactersMax = 4_096;
/** Tasks kept in the ledger's state; the oldest ended ones leave first. */
export const tasksKeptMax = 500;
/** Command ids are remembered this long in ledger time, so that a repeated command is applied once (design §5). */
export const commandIdKeptMs = 7 * 24 * 60 * 60 * 1000;
