// Owns the reading of what Nix prints where versions differ: `nix --version`, and `nix path-info --json`, which is a list up
// to 2.18, a map from 2.19 on, and a map inside an envelope in the newest format. All become the same records.

import { ParleyError } from '../../protocols/errors.ts';
import { toNarHash } from '../../protocols/nix32.ts';

/** What Nix's database knows of one valid path. */
export interface PathInfo {
  readonly path: string;
  /** `sha256:` and 52 digits of Nix's base 32, the form that signatures cover. */
  readonly narHash: string;
  readonly narSize: number;
  /** Full paths in ascending order. */
  readonly references: readonly string[];
  readonly deriver: string | undefined;
  readonly signatures: readonly string[];
}

const storeFolder = '/nix/store';

/** The version in `nix (Nix) 2.8.0`, also of Nix's relatives, which print their own name in the parentheses. */
export function parseNixVersion(text: string): { readonly major: number; readonly minor: number } | undefined {
  const match = /\)\s+(\d+)\.(\d+)/.exec(text) ?? /(\d+)\.(\d+)/.exec(text);
  return match === null ? undefined : { major: Number(match[1]), minor: Number(match[2]) };
}

/**
 * Reads `nix path-info --json` of any version; paths that the store does not have are left out.
 * @throws ParleyError `nix-output-unknown`.
 */
export function parsePathInfo(text: string): PathInfo[] {
  const records = recordsOf(parseJson(text));
  return records
    .filter(([, record]) => isValidRecord(record))
    .map(([path, record]) => pathInfoOf(path, record as object));
}

/** Writes a SHA-256 in any of Nix's forms (SRI, base 16, base 32, with or without `sha256:`) as `sha256:<nix32>`. */
export function normaliseNarHash(hash: unknown): string {
  if (typeof hash === 'object' && hash !== null) {
    const { algorithm, hash: digits } = hash as Record<string, unknown>;
    return normaliseNarHash(`${String(algorithm)}:${String(digits)}`);
  }
  const match = /^sha256[-:](.+)$/.exec(String(hash));
  const digits = match?.[1] ?? '';
  if (/^[0-9a-df-np-sv-z]{52}$/.test(digits)) return `sha256:${digits}`;
  const bytes = /^[0-9a-f]{64}$/.test(digits) ? Buffer.from(digits, 'hex') : Buffer.from(digits, 'base64');
  if (bytes.byteLength !== 32) throw unknownOutput(`'${String(hash)}' is no SHA-256`);
  return toNarHash(bytes);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unknownOutput(`its path information is not JSON: ${(cause as Error).message}`, cause);
  }
}

function recordsOf(json: unknown): [path: string, record: unknown][] {
  if (Array.isArray(json)) return json.map((record) => [String((record as { path?: unknown } | null)?.path), record]);
  if (typeof json !== 'object' || json === null) throw unknownOutput('its path information is neither list nor map');
  const { info } = json as { info?: unknown };
  const map = typeof info === 'object' && info !== null && 'version' in json ? info : json;
  return Object.entries(map);
}

function isValidRecord(record: unknown): boolean {
  return typeof record === 'object' && record !== null && (record as { valid?: unknown }).valid !== false;
}

function pathInfoOf(path: string, record: object): PathInfo {
  const { narHash, narSize, references, deriver, signatures } = record as Record<string, unknown>;
  if (typeof narSize !== 'number' || !Array.isArray(references)) {
    throw unknownOutput(`the record of '${path}' lacks its size or references`);
  }
  return {
    path: fullPath(path),
    narHash: normaliseNarHash(narHash),
    narSize,
    references: references.map((reference) => fullPath(String(reference))).sort(),
    deriver: typeof deriver === 'string' ? fullPath(deriver) : undefined,
    signatures: Array.isArray(signatures) ? signatures.filter((entry) => typeof entry === 'string') : [],
  };
}

/** The newest format leaves the store's folder out. */
function fullPath(path: string): string {
  return path.startsWith('/') ? path : `${storeFolder}/${path}`;
}

function unknownOutput(state: string, cause?: unknown): ParleyError {
  const hint = 'This version of Nix prints something that Parley does not know: please report it with `nix --version`.';
  return new ParleyError('nix-output-unknown', `Nix's answer cannot be read: ${state}`, { hint, cause });
}
