// Owns the peer's configuration file: JSON, written by `init` and `join`, mended by people. What the fleet decides (name,
// site, roles) is in the ledger, never here.

import * as v from 'valibot';
import { addressSchema, countSchema } from './primitives.ts';

const folderSchema = v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'), v.maxLength(1_024));

/** One word of a list in Nix's own configuration. */
const settingWordSchema = v.pipe(v.string(), v.regex(/^[^\s#]{1,1024}$/, 'expected a word without blanks'));

export const configSchema = v.strictObject({
  version: v.literal(1),
  /** Multiaddrs to listen on, TCP and WebSockets. Port 0 takes a free one at each start. */
  listen: v.pipe(v.array(addressSchema), v.minLength(1), v.maxLength(16)),
  /** Addresses that others reach this peer under, where they are not those it listens on (a forwarded port). */
  announce: v.optional(v.pipe(v.array(addressSchema), v.maxLength(16)), []),
  /** How peers of the own site are found without an address: `mdns`, or not at all. */
  discovery: v.optional(v.picklist(['mdns', 'none']), 'mdns'),
  /** Folder of a diverted Nix store for this peer alone; left out, the machine's store is used. */
  nixStore: v.optional(folderSchema),
  /** URLs that a diverted store may substitute from when it builds; the machine's store keeps the machine's settings. */
  substituters: v.optional(v.pipe(v.array(settingWordSchema), v.maxLength(16)), []),
  /** Keys (`name:base64`) of which one must have signed what comes from there. */
  trustedPublicKeys: v.optional(v.pipe(v.array(settingWordSchema), v.maxLength(64)), []),
  /** Lets the local socket speak as any operator. For demonstrations only: it makes every approval worthless. */
  speakAs: v.optional(v.boolean(), false),
  /** Wait between a switch and the look at failed units, in milliseconds. */
  healthSettleMs: v.optional(v.pipe(countSchema, v.maxValue(600_000)), 5_000),
  /** How long another peer has to confirm a switch, in milliseconds. */
  confirmWindowMs: v.optional(v.pipe(countSchema, v.maxValue(3_600_000)), 60_000),
  logLevel: v.optional(v.picklist(['debug', 'info', 'warn', 'error']), 'info'),
});
export type Config = v.InferOutput<typeof configSchema>;
