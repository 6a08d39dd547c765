// The judge of histories, judged: by Porcupine's recorded ones where they are at hand, and by trying every order of small ones.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { judge, type Model, type Operation } from '../../scripts/conformance/linearizability.ts';
import { type RegisterInput, type RegisterOutput, registerModel, textModel } from '../../scripts/conformance/models.ts';
import { runPorcupine } from '../../scripts/conformance/porcupine.ts';
import { seededRandom } from '../helpers/random.ts';

const root = process.env.PARLEY_CONFORMANCE ?? join(import.meta.dirname, '../../../shared/conformance');
const folder = join(root, 'porcupine');
const skip = existsSync(folder) ? false : `no data at '${folder}': set PARLEY_CONFORMANCE to run this`;

type RegisterOperation = Operation<RegisterInput, RegisterOutput>;

const operation = (
  [calledAt, returnedAt]: readonly [number, number],
  input: RegisterInput,
  output: RegisterOutput | undefined,
  key = 'k',
): RegisterOperation => ({ key, input, output, calledAt, returnedAt });
const read = { kind: 'read' } as const;
const write = (value: string) => ({ kind: 'write', value }) as const;

test("judge() gives the right verdict on each of Porcupine's histories", { skip }, async () => {
  const { histories, right, wrong } = await runPorcupine(folder);
  assert.deepEqual(wrong, []);
  assert.equal(right, histories);
  assert.ok(histories >= 66, `${histories} histories`);
});

test('judge() finds a read that is older than what was acknowledged before it', () => {
  const history = [operation([0, 1], write('a'), true), operation([2, 3], write('b'), true)];
  assert.equal(judge(registerModel, [...history, operation([4, 5], read, 'b')]), 'linearizable');
  assert.equal(judge(registerModel, [...history, operation([4, 5], read, 'a')]), 'not-linearizable');
  const overlapping = [operation([0, 1], write('a'), true), operation([2, 5], write('b'), true)];
  assert.equal(judge(registerModel, [...overlapping, operation([3, 4], read, 'a')]), 'linearizable');
});

test('judge() lets an unknown outcome happen late or never, but not before its call', () => {
  const lost = operation([2, 3], write('b'), undefined);
  const first = operation([0, 1], write('a'), true);
  for (const seen of ['a', 'b']) {
    assert.equal(judge(registerModel, [first, lost, operation([8, 9], read, seen)]), 'linearizable', seen);
  }
  const back = [operation([4, 5], read, 'b'), operation([6, 7], read, 'a')];
  assert.equal(judge(registerModel, [first, lost, ...back]), 'not-linearizable');
  assert.equal(judge(registerModel, [operation([0, 1], read, 'b'), lost]), 'not-linearizable');
});

test('judge() takes each key on its own', () => {
  const history = [operation([0, 1], write('a'), true, 'x'), operation([2, 3], read, 'nil', 'y')];
  assert.equal(judge(registerModel, history), 'linearizable');
  assert.equal(judge(registerModel, [...history, operation([4, 5], read, 'a', 'y')]), 'not-linearizable');
});

test('judge() ends undecided when it may not remember enough', () => {
  const history = Array.from({ length: 12 }, (_, at) => operation([at, 100 + at], write(`${at}`), true));
  assert.equal(judge(registerModel, [...history, operation([300, 301], read, 'never')], 1_000), 'undecided');
});

test('judge() follows a long history', () => {
  const length = 20_000;
  const history = Array.from({ length }, (_, at) => ({
    key: 'k',
    input: { kind: 'append', value: '' } as const,
    output: '',
    calledAt: 2 * at,
    returnedAt: 2 * at + 3,
  }));
  assert.equal(judge(textModel, history), 'linearizable');
});

test('judge() agrees with trying every order of small histories', () => {
  const verdicts = new Map<string, number>();
  for (let seed = 1; seed <= 3_000; seed += 1) {
    const history = randomHistory(seededRandom(seed));
    const verdict = judge(registerModel, history);
    assert.equal(verdict, hasOrder(registerModel, history) ? 'linearizable' : 'not-linearizable', `seed ${seed}`);
    verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
  }
  assert.ok(Math.min(...verdicts.values()) > 500, `both verdicts occur: ${JSON.stringify([...verdicts])}`);
});

function randomHistory(random: () => number): RegisterOperation[] {
  const below = (bound: number): number => Math.floor(random() * bound);
  return Array.from({ length: 2 + below(5) }, (_, process) => {
    const calledAt = below(12) * 10 + process;
    const returnedAt = calledAt + 10 * (1 + below(5));
    const span = [calledAt, returnedAt] as const;
    const output = below(4) === 0 ? undefined : below(3) > 0;
    const value = `${below(2)}`;
    const kind = below(3);
    if (kind === 0) return operation(span, read, output === undefined ? output : value);
    if (kind === 1) return operation(span, write(value), output === undefined ? output : true);
    return operation(span, { kind: 'cas', old: below(3) === 0 ? 'nil' : '1', value }, output);
  });
}

/** By definition: some order of some of the operations, with all whose outcome is known, that time and model allow. */
function hasOrder<Input, Output>(
  model: Model<Input, Output>,
  left: readonly Operation<Input, Output>[],
  state = model.initial,
): boolean {
  if (left.every(({ output }) => output === undefined)) return true;
  const firstReturn = Math.min(...left.filter(({ output }) => output !== undefined).map((each) => each.returnedAt));
  return left.some((next) => {
    const after = next.calledAt < firstReturn ? model.step(state, next.input, next.output) : undefined;
    const rest = left.filter((each) => each !== next);
    return after !== undefined && hasOrder(model, rest, after);
  });
}
