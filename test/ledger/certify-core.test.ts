// What a voter signs for and what it never does, by its own ledger; and which voters a configuration entry may name.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Known, marksOf, type Verdict, verdictOn } from '../../node/ledger/certify-core.ts';
import { encodeConfigurationContext } from '../../protocols/certificate.ts';
import { type Configuration, encodeConfigurationChange } from '../../protocols/consensus-record.ts';
import {
  adoptPolicy,
  commit,
  configurationData,
  createLedgerScript,
  deployToPlan,
  hash,
  type LedgerScript,
  order,
  peerIdOf,
  report,
  voterKeyOf,
} from '../helpers/ledger-script.ts';

const alone: Configuration = { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

/** The verdict on the entry at an index, or the last one, by what the script's state says. */
function judge(
  script: LedgerScript,
  fields: Partial<Known> & { readonly index?: number; readonly configuration?: Configuration } = {},
): Verdict {
  const { index = script.state().index, configuration, ...known } = fields;
  const entry = script.entries.find((each) => each.index === index) ?? assert.fail('no such entry');
  const state = script.state();
  const all = { state, setAfter: state.voterSet, checkpointHash: () => null, ...known };
  return verdictOn(configuration ? { ...entry, configuration } : entry, all);
}

const isAlarm = (verdict: Verdict): boolean => verdict.kind === 'refuse' && verdict.isAlarm;

function deployed(): { script: LedgerScript; task: string; plan: string } {
  const script = createLedgerScript();
  for (const name of ['web1', 'web2']) script.join(name);
  commit(script, 'first');
  adoptPolicy(script);
  return { script, ...deployToPlan(script, ['web1', 'web2'], { actor: 'dave' }) };
}

describe('verdictOn()', () => {
  test('never signs the first entry of a generation, and raises the alarm where nobody vouches for that', () => {
    const script = createLedgerScript();
    const { fleet, index, term, chainHash } = script.state();
    const record = {
      ...{ version: 1 as const, fleet, number: 1, baseIndex: index, baseTerm: term, baseHash: chainHash },
      voters: [{ raftId: 1_000_000, peer: peerIdOf('n1'), key: voterKeyOf('n1') }],
      signature: null,
    };
    script.refuse('generation-unknown', 'generation-begun', record);
    assert.ok(isAlarm(judge(script)));
    const { index: baseIndex, chainHash: baseHash } = script.state();
    script.generations.push({ ...record, baseIndex, baseHash });
    script.accept('generation-begun', { ...record, baseIndex, baseHash });
    assert.deepEqual([judge(script).kind, isAlarm(judge(script))], ['refuse', false]);
  });

  test('signs an order that this ledger accepted, and none that it refused', () => {
    const { script, task, plan } = deployed();
    const closure = `/nix/store/${'a'.repeat(32)}-web1`;
    const body = { task, host: 'web1', slot: 'system' as const, plan, closure, manifest: hash('manifest') };
    script.refuse('not-approved', 'order-given', body, { actor: 'controller' });
    assert.equal(judge(script).kind, 'refuse');
    script.accept('approval-given', { task, plan, verdict: 'approve' }, { actor: 'alice' });
    const number = order(script, task, 'web1');
    assert.equal(judge(script).kind, 'sign');
    assert.deepEqual(marksOf(script.state()), [number]);
    report(script, 'web1', 'succeeded');
    assert.deepEqual(marksOf(script.state()), [], 'an order that has ended needs no proof');
  });

  test('signs no order that a newer one has taken the place of', () => {
    const { script, task, plan } = deployed();
    script.accept('approval-given', { task, plan, verdict: 'approve' }, { actor: 'alice' });
    const index = order(script, task, 'web1');
    const { orders } = script.state();
    const [current] = Object.values(orders);
    assert.ok(current);
    const state = { ...script.state(), orders: { web1: { ...current, number: index + 1 } } };
    assert.equal(judge(script, { index, state }).kind, 'refuse');
  });

  test('signs a checkpoint only where its own state there has the same hash', () => {
    const script = createLedgerScript();
    script.apply('checkpoint-begun', {});
    const { index } = script.state();
    assert.equal(judge(script).kind, 'sign');
    const stateHash = hash('state');
    script.apply('checkpoint-made', { index, stateHash });
    assert.equal(judge(script, { checkpointHash: (at) => (at === index ? stateHash : null) }).kind, 'sign');
    const other = judge(script, { checkpointHash: () => hash('another state') });
    assert.ok(isAlarm(other));
    assert.equal(judge(script, { checkpointHash: () => undefined }).kind, 'wait');
    const unknown = judge(script);
    assert.equal(unknown.kind, 'refuse');
    assert.ok(!isAlarm(unknown));
    assert.deepEqual(marksOf(script.state()), [script.state().index]);
    const before = script.state();
    script.refuse('checkpoint-unknown', 'checkpoint-made', { index, stateHash });
    assert.equal(judge(script, { checkpointHash: () => stateHash }).kind, 'refuse', 'refused here');
    assert.equal(script.state().checkpointMade, before.checkpointMade);
  });

  test('signs a configuration entry only where it says what consensus put in force', () => {
    const script = createLedgerScript();
    script.configure({ voters: [1], learners: [] });
    assert.equal(judge(script, { configuration: alone }).kind, 'sign');
    assert.ok(isAlarm(judge(script)), 'consensus must say');
    assert.ok(isAlarm(judge(script, { configuration: { ...alone, voters: [1, 2] } })));
    assert.ok(isAlarm(judge(script, { configuration: { ...alone, votersOutgoing: [1] } })));
    assert.ok(isAlarm(judge(script, { configuration: { ...alone, learners: [7] } })));
    assert.ok(!isAlarm(judge(script, { configuration: alone, setAfter: undefined })));
  });

  test('signs no configuration entry that this ledger took nothing from', () => {
    const script = createLedgerScript();
    script.join('n2', ['voter']);
    const before = script.state().voterSet;
    const both = { ...alone, voters: [1, 2] };
    const named = (raftId: number, name: string, key = voterKeyOf(name)) => ({ raftId, peer: peerIdOf(name), key });
    const place = (...voters: { raftId: number; peer: string; key: string }[]): void => {
      const context = encodeConfigurationContext({ configuration: both, voters });
      const steps = [{ kind: 'add-voter' as const, raftId: 2 }];
      const change = encodeConfigurationChange({ transition: 'joint-explicit', steps, context });
      script.applyConfiguration(change);
      assert.deepEqual(script.state().voterSet, before);
      assert.ok(isAlarm(judge(script, { configuration: both })));
    };
    place(named(1, 'n1'), named(2, 'n2', voterKeyOf('thief')));
    place(named(1, 'n1'), named(2, 'thief'));
    place(named(1, 'n1'));
    place(named(1, 'n1'), named(2, 'n2'), named(3, 'n3'));
    place(named(1, 'n1'), named(2, 'n2'), named(2, 'n2'));
    script.applyConfiguration(configurationData(script.state(), both));
    assert.equal(judge(script, { configuration: both }).kind, 'sign');
    assert.deepEqual(
      script.state().voterSet.voters.map(({ key }) => key),
      [voterKeyOf('n1'), voterKeyOf('n2')],
    );
  });

  test('signs what says nothing that it could look up, and what nobody can read', () => {
    const script = createLedgerScript();
    script.join('web1');
    assert.equal(judge(script).kind, 'sign');
    script.applyData(new Uint8Array(0));
    assert.equal(judge(script).kind, 'sign');
    script.applyData(new Uint8Array([1, 2, 3]));
    assert.equal(judge(script).kind, 'sign');
  });
});
