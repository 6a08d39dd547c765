// Owns what the peer's own commands do besides running it, and what they say: found a fleet, join one, begin a new generation
// of one, name the generation that this device is to accept.

import { resolve } from 'node:path';
import { check } from '../protocols/codec.ts';
import { configSchema } from '../protocols/config.ts';
import { ParleyError } from '../protocols/errors.ts';
import { generationHash } from '../protocols/generation.ts';
import type { PeerArguments } from './arguments.ts';
import { checkFolderPath, defaultStateFolder } from './config.ts';
import { enrol, foundFleet, loadMembership, readToken } from './enrolment.ts';
import type { Survey } from './recovery.ts';
import { createVoteFolder } from './wiring/vote-folder.ts';

interface Answer {
  readonly document: Record<string, unknown>;
  readonly lines: readonly string[];
}

/** Carries one out. @returns the lines to print. */
export async function carryOutPeerCommand(
  given: PeerArguments,
  input: AsyncIterable<Buffer | string>,
): Promise<readonly string[]> {
  const stateFolder = checkFolderPath(resolve(given.state ?? defaultStateFolder()));
  const { document, lines } = await answer(given, stateFolder, input);
  return given.json ? [JSON.stringify({ version: 1, ...document })] : lines;
}

function answer(given: PeerArguments, stateFolder: string, input: AsyncIterable<Buffer | string>): Promise<Answer> {
  if (given.command === 'recover') return beginGeneration(given, stateFolder);
  if (given.command === 'trust') return nameGeneration(given, stateFolder);
  return beginMembership(given, stateFolder, input);
}

async function beginMembership(
  given: PeerArguments,
  stateFolder: string,
  input: AsyncIterable<Buffer | string>,
): Promise<Answer> {
  const config = check(configSchema, given.newConfig, 'options');
  const token = given.token === '-' ? await readToken(input) : given.token;
  const { peer, membership, recoveryKeyFile } =
    given.command === 'init'
      ? await foundFleet({ stateFolder, config, name: given.name, site: given.site, nowMs: Date.now() })
      : await enrol({ stateFolder, config, token, signal: AbortSignal.timeout(120_000) });
  const { fleet, name, site, roles } = membership;
  const keyLines = recoveryKeyFile
    ? [`Move ${recoveryKeyFile} to a place that is offline: it is the way back when most voters are lost.`]
    : [];
  return {
    document: { fleet, peer, name, site, roles, stateFolder, recoveryKeyFile },
    lines: [
      `This is now the peer '${name}' at site '${site}' (${roles.join(', ')}) of fleet ${fleet.slice(0, 12)}.`,
      ...keyLines,
      `Start it: parley run --state ${stateFolder}`,
    ],
  };
}

async function beginGeneration(given: PeerArguments, stateFolder: string): Promise<Answer> {
  const { recover, survey } = await import('./recovery.ts');
  const { beginning } = given;
  if (!beginning?.isConfirmed) {
    const found = await survey(stateFolder);
    const lines = surveyLines(found);
    if (beginning === null) return { document: surveyDocument(found), lines };
    throw new ParleyError('usage', `nothing was changed.\n${lines.join('\n')}`, {
      hint: `Give --yes as well to begin generation ${found.nextGeneration} on '${found.name}': the rest of the fleet then follows it for good.`,
    });
  }
  const { survey: found, record, oldLog } = await recover({ stateFolder, keyFile: beginning.keyFile });
  const hash = generationHash(record);
  const how =
    record.signature === null
      ? `On every other device, as root: parley trust ${hash}`
      : 'Every other peer follows once it meets this one.';
  return {
    document: {
      ...surveyDocument(found),
      number: record.number,
      record: hash,
      isSigned: record.signature !== null,
      oldLog,
    },
    lines: [
      `Generation ${record.number} of the fleet begins with '${found.name}', after entry ${record.baseIndex}. Its record is`,
      hash,
      how,
      ...keptLines(found),
      ...(oldLog === null ? [] : [`Its earlier log was set aside: ${oldLog}`]),
      `Start this peer: parley run --state ${stateFolder}`,
      'Then bring the fleet back to three voters: parley voters add HOST',
    ],
  };
}

function surveyDocument({ recoveryKey: _, ...found }: Survey): Record<string, unknown> {
  return { ...found };
}

function surveyLines(found: Survey): string[] {
  const { name, fleet, generation, nextGeneration, term, index, chainHash, timeMs, head } = found;
  return [
    `'${name}' of fleet ${fleet.slice(0, 12)}, generation ${generation}, has the ledger up to`,
    `  term ${term}, entry ${index}, written ${new Date(timeMs).toISOString()}, chain hash ${chainHash.slice(0, 12)}; project at ${head?.slice(0, 8) ?? 'no commit'}`,
    ...keptLines(found),
    `Voters: ${found.voters.join(', ')}. Members: ${found.members.join(', ')}.`,
    'Stop the other survivors and compare: recover on the one with the highest generation, among these with the highest',
    'term, among these with the highest entry. What was acknowledged after that entry is lost.',
    `A recovery here begins generation ${nextGeneration}.`,
  ];
}

/** What people must know of the entries that a recovery keeps, and of those that it cannot. */
function keptLines({ uncertain, damage, ledgerDamage, lost, index }: Survey): string[] {
  const kept = [
    ...(uncertain === 0
      ? []
      : [`Nobody knows whether its last ${uncertain} entries were ever acknowledged: they are kept, and take effect.`]),
    ...(ledgerDamage === null ? [] : [`Its ledger is damaged (${ledgerDamage}): what is kept comes from its log.`]),
  ];
  if (damage === null) return kept;
  const loss =
    lost === null
      ? 'What it held after that is lost, and nobody can tell how much it was'
      : `The ${lost} entries after that are lost`;
  return [...kept, `Its log is damaged (${damage}). What is sound of it, up to entry ${index}, is kept. ${loss}.`];
}

async function nameGeneration(given: PeerArguments, stateFolder: string): Promise<Answer> {
  const { name } = await loadMembership(stateFolder);
  await createVoteFolder(stateFolder).nameGeneration(given.token);
  return {
    document: { name, record: given.token },
    lines: [
      `'${name}' accepts the generation with this record once it meets it, in the place of any other of its number.`,
    ],
  };
}
