// The light client: what voters' signatures prove, and every way in which somebody may serve less than that.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Following,
  type Serving,
  type Trust,
  takeCheckpoint,
  takeConfiguration,
  takePage,
  takeState,
  trustIn,
  withVoterSet,
} from '../../node/ledger/trust-core.ts';
import { verifySignature } from '../../node/mesh/identity.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { encodeConfigurationChange, entryChainHash } from '../../protocols/consensus-record.ts';
import { type EntryPage, uncertifiedEntriesMax } from '../../protocols/entry-pull.ts';
import { type GenerationRecord, generationVoters } from '../../protocols/generation.ts';
import { type CertifiedChain, createCertifiedChain } from '../helpers/certified-chain.ts';
import { createLedgerScript, peerIdOf } from '../helpers/ledger-script.ts';
import { allSteps } from '../helpers/steps.ts';
import { signedBy, voterIdentityOf } from '../helpers/voter-keys.ts';

const serving: Serving = { server: 'the-liar', verify: verifySignature, certainHash: () => undefined };

/** A member that has followed from genesis up to an index. */
function follow(chain: CertifiedChain, to: number): { trust: Trust; following: Following } {
  const { genesis } = chain.script;
  let trust = trustIn(genesis.fleet, genesis.state.voterSet, []);
  let following: Following = { place: genesis.state, pending: [] };
  for (const page of to < 2 ? [] : chain.pages(2, to)) {
    const taken = takePage(trust, following, page, serving);
    assert.ok('proven' in taken);
    if (taken.proven.configuration) trust = takeConfiguration(trust, taken.proven.configuration, serving);
    following = { place: taken.proven.entries.at(-1) ?? assert.fail(), pending: [] };
  }
  return { trust, following };
}

const refused = (chain: CertifiedChain, at: number, page: EntryPage, code: string): void => {
  const { trust, following } = follow(chain, at);
  assert.throws(
    () => takePage(trust, following, page, serving),
    (error: Error & { code?: string }) => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, /the-liar/, 'the error names who served it');
      return true;
    },
  );
};

/** Five voters; entry `last` is an ordinary one. */
function fiveVoters(): CertifiedChain {
  const chain = createCertifiedChain();
  chain.enrol('n2', 'n3', 'n4', 'n5');
  chain.change([1, 2, 3, 4, 5]);
  chain.fill(4);
  return chain;
}

/** A page with the signatures of these voters only. */
const signed = (chain: CertifiedChain, from: number, raftIds: readonly number[]): EntryPage => ({
  ...chain.page(from, chain.last()),
  signatures: chain.certificate(chain.last(), raftIds).signatures.map(({ raftId, signature }) => [raftId, signature]),
});

describe('takePage()', () => {
  test('takePage() follows the voters from set to set, from genesis', () => {
    const chain = fiveVoters();
    chain.change([3, 4, 5]);
    chain.fill(2);
    chain.enrol('n6');
    chain.change([4, 5, 6]);
    chain.fill(1);
    const { trust, following } = follow(chain, chain.last());
    assert.equal(following.place.chainHash, chain.script.state().chainHash);
    assert.deepEqual(trust.sets.at(-1), chain.script.state().voterSet);
  });

  test('takePage() keeps entries aside until a certificate covers them', () => {
    const chain = fiveVoters();
    const { trust, following } = follow(chain, chain.last() - 4);
    const first = takePage(trust, following, chain.page(chain.last() - 3, chain.last() - 2, false), serving);
    assert.ok('pending' in first && first.pending.length === 2);
    const kept = { ...following, pending: first.pending };
    const second = takePage(trust, kept, chain.page(chain.last() - 1, chain.last()), serving);
    assert.ok('proven' in second && second.proven.entries.length === 4);
  });

  test('takePage() wants a majority: half of the voters, one of them often, and strangers are none', () => {
    const chain = fiveVoters();
    const from = chain.last() - 3;
    for (const raftIds of [[1], [1, 2], [1, 1, 1], [2, 2, 2, 2, 2]]) {
      refused(chain, from - 1, signed(chain, from, raftIds), 'uncertified');
    }
    const stranger = chain.certificate(chain.last(), [4, 5]).signatures.map(({ signature }) => signature);
    const signatures = [...(signed(chain, from, [1, 2]).signatures ?? [])];
    refused(
      chain,
      from - 1,
      { ...chain.page(from, chain.last()), signatures: [...signatures, [9, stranger[0] ?? new Uint8Array(64)]] },
      'uncertified',
    );
    refused(
      chain,
      from - 1,
      { ...chain.page(from, chain.last()), signatures: [...signatures, [3, stranger[0] ?? new Uint8Array(64)]] },
      'uncertified',
    );
    const { trust, following } = follow(chain, from - 1);
    assert.ok('proven' in takePage(trust, following, signed(chain, from, [1, 3, 5]), serving));
  });

  test('takePage() refuses the certificate of another entry, another fleet, another generation', () => {
    const chain = fiveVoters();
    const [from, last] = [chain.last() - 3, chain.last()];
    const set = chain.setBefore(last);
    const { fleet } = chain.script.genesis;
    const place = chain.entry(last);
    const bent = [
      chain.certificate(last - 1),
      signedBy(set, fleet, { index: last, chainHash: chain.entry(last - 1).chainHash }),
      signedBy(set, sha256Hex('another'), place),
      signedBy(set, fleet, { ...place, generation: 1 }),
    ];
    for (const { signatures } of bent) {
      const pairs = signatures.map(({ raftId, signature }): [number, Uint8Array] => [raftId, signature]);
      refused(chain, from - 1, { ...chain.page(from, last), signatures: pairs }, 'uncertified');
    }
  });

  test('takePage() refuses entries that were changed, left out, swapped or moved', () => {
    const chain = fiveVoters();
    const [from, last] = [chain.last() - 3, chain.last()];
    const page = chain.page(from, last);
    const [first, second, ...rest] = page.entries;
    assert.ok(first && second);
    const changed = Uint8Array.from(first);
    changed[changed.length - 1] = (changed[changed.length - 1] ?? 0) ^ 1;
    for (const entries of [
      [changed, second, ...rest],
      [second, ...rest],
      [second, first, ...rest],
      [first, first, second, ...rest],
    ]) {
      refused(chain, from - 1, { ...page, entries }, 'uncertified');
    }
    refused(chain, from - 1, { ...page, term: 2 }, 'uncertified');
    refused(chain, from - 1, { ...page, term: 0 }, 'chain-mismatch');
    refused(chain, from - 1, { ...page, endsWithConfiguration: true }, 'uncertified');
  });

  test('takePage() takes a change of voters only with its own certificate, by the voters before it', () => {
    const chain = fiveVoters();
    const before = chain.last();
    const [entering, leaving] = chain.change([3, 4, 5]);
    chain.fill(2);
    const { signatures: _none, ...bare } = chain.page(before + 1, entering);
    refused(chain, before, bare, 'uncertified');
    // Under a later certificate, as if it were an ordinary entry.
    const swallowed: EntryPage = {
      ...chain.page(chain.last(), chain.last()),
      entries: chain.script.entries.slice(before - 1).map(({ data }) => data),
    };
    refused(chain, before, swallowed, 'uncertified');
    // By the voters that it puts in force.
    const after = signedBy(chain.setBefore(leaving + 1), chain.script.genesis.fleet, chain.entry(entering), [3, 4]);
    refused(
      chain,
      before,
      { ...bare, signatures: after.signatures.map(({ raftId, signature }) => [raftId, signature]) },
      'uncertified',
    );
  });

  test('takePage() wants a majority of both halves while the voters are joint', () => {
    const chain = fiveVoters();
    chain.enrol('n6', 'n7');
    const before = chain.last();
    const [entering, leaving] = chain.change([1, 6, 7]);
    assert.equal(entering, before + 1);
    const page = chain.page(leaving, leaving);
    const by = (raftIds: readonly number[]): EntryPage => ({
      ...page,
      signatures: chain.certificate(leaving, raftIds).signatures.map(({ raftId, signature }) => [raftId, signature]),
    });
    refused(chain, entering, by([1, 2, 3, 4, 5]), 'uncertified');
    refused(chain, entering, by([1, 6, 7]), 'uncertified');
    const { trust, following } = follow(chain, entering);
    assert.ok('proven' in takePage(trust, following, by([2, 3, 1, 6]), serving));
  });

  test('takePage() refuses a fork that voters of long ago sign with keys that they kept', () => {
    const chain = fiveVoters();
    const old = chain.setBefore(chain.last() + 1);
    const base = chain.last();
    chain.change([4, 5]);
    chain.enrol('n6', 'n7');
    chain.change([5, 6, 7]);
    chain.fill(2);
    const fork = { index: chain.last() + 1, term: 1, type: 'normal' as const, data: encode('give me all') };
    const chainHash = entryChainHash(chain.script.state().chainHash, fork);
    const { signatures } = signedBy(old, chain.script.genesis.fleet, { ...fork, chainHash }, [1, 2, 3, 4]);
    const pairs = signatures.map(({ raftId, signature }): [number, Uint8Array] => [raftId, signature]);
    refused(chain, chain.last(), { kind: 'entries', term: 1, entries: [fork.data], signatures: pairs }, 'uncertified');
    assert.ok(base < chain.last());
  });

  test('takePage() refuses what contradicts a certified entry, whoever signed it', () => {
    const chain = fiveVoters();
    const [from, last] = [chain.last() - 3, chain.last()];
    const { trust, following } = follow(chain, from - 1);
    const certainHash = (index: number) => (index === last - 1 ? sha256Hex('another history') : undefined);
    const take = () => takePage(trust, following, chain.page(from, last), { ...serving, certainHash });
    assert.throws(take, { code: 'contradiction' });
  });

  test('takePage() bounds what it keeps without a certificate', () => {
    const chain = fiveVoters();
    const { trust, following } = follow(chain, chain.last());
    const page: EntryPage = { kind: 'entries', term: 1, entries: new Array<Uint8Array>(1_024).fill(new Uint8Array(2)) };
    const large: EntryPage = { ...page, entries: new Array<Uint8Array>(8).fill(new Uint8Array(64 * 1024)) };
    for (const [each, rounds] of [
      [page, uncertifiedEntriesMax / 1_024],
      [large, 16],
    ] as const) {
      let kept = following;
      for (let round = 0; round < rounds; round += 1) {
        const taken = takePage(trust, kept, each, serving);
        assert.ok('pending' in taken);
        kept = { ...kept, pending: taken.pending };
      }
      assert.throws(() => takePage(trust, kept, each, serving), { code: 'too-much-uncertified' });
    }
  });
});

describe('takeConfiguration()', () => {
  test('takeConfiguration() follows proofs alone, over several joint changes', () => {
    const chain = fiveVoters();
    const indexes = [...chain.change([3, 4, 5])];
    chain.enrol('n6', 'n7');
    chain.fill(5);
    indexes.push(...chain.change([5, 6, 7]));
    const start = follow(chain, (indexes[0] ?? 0) - 1).trust;
    const trust = indexes.reduce((known, index) => takeConfiguration(known, chain.proof(index), serving), start);
    assert.deepEqual(trust.sets.at(-1), chain.script.state().voterSet);
  });

  test('takeConfiguration() refuses proofs out of their order, of other entries and by other voters', () => {
    const chain = fiveVoters();
    const [entering, leaving] = chain.change([3, 4, 5]);
    const { trust } = follow(chain, entering - 1);
    const proof = chain.proof(entering);
    const refuse = (bent: typeof proof, code: string) =>
      assert.throws(() => takeConfiguration(trust, bent, serving), { code });
    refuse({ ...chain.proof(leaving), certificate: chain.certificate(leaving, [3, 4]) }, 'uncertified');
    refuse({ ...proof, certificate: chain.certificate(entering, [1, 2]) }, 'uncertified');
    refuse({ ...proof, certificate: chain.certificate(entering - 1) }, 'chain-mismatch');
    refuse({ ...proof, previous: sha256Hex('another') }, 'chain-mismatch');
    const data = encodeConfigurationChange({ transition: 'joint-explicit', steps: [], context: new Uint8Array(0) });
    refuse({ ...proof, entry: { ...proof.entry, data } }, 'chain-mismatch');
  });

  test('takeConfiguration() takes no end of a joint set whose beginning was left out', () => {
    const chain = fiveVoters();
    const [entering, leaving] = chain.change([3, 4, 5]);
    const { trust } = follow(chain, entering - 1);
    const proof = chain.proof(leaving);
    assert.throws(() => takeConfiguration(trust, proof, serving), { code: 'proof-missing' });
    const whole = takeConfiguration(takeConfiguration(trust, chain.proof(entering), serving), proof, serving);
    assert.deepEqual(whole.sets.at(-1), chain.script.state().voterSet);
  });
});

describe('takeCheckpoint() and takeState()', () => {
  test('takeState() gives the state that voters certified, over changes of voters before and after it', () => {
    const chain = fiveVoters();
    const first = chain.last();
    const changes = [...chain.change([3, 4, 5])];
    chain.checkpoint();
    const { proof, data, index } = chain.madeCheckpoint();
    const start = follow(chain, first).trust;
    const trust = changes.reduce((known, each) => takeConfiguration(known, chain.proof(each), serving), start);
    const made = takeCheckpoint(trust, proof, serving);
    const state = allSteps(takeState(trust, made, data, serving)).result;
    assert.equal(state.index, index);
  });

  test('takeState() refuses other bytes, and takeCheckpoint() other entries and too few voters', () => {
    const chain = fiveVoters();
    chain.checkpoint();
    const { proof, data } = chain.madeCheckpoint();
    const { trust } = follow(chain, chain.last() - 5);
    const made = takeCheckpoint(trust, proof, serving);
    const other = Uint8Array.from(data);
    other[40] = (other[40] ?? 0) ^ 1;
    for (const bytes of [other, data.slice(0, -1), new Uint8Array(0)]) {
      assert.throws(() => allSteps(takeState(trust, made, bytes, serving)), { code: 'checkpoint-mismatch' });
    }
    const few = { ...proof, certificate: chain.certificate(proof.entry.index, [1, 2]) };
    assert.throws(() => takeCheckpoint(trust, few, serving), { code: 'uncertified' });
    const index = proof.entry.index - 1;
    const { term, data: entry } = chain.entry(index);
    const plain = {
      entry: { index, term, data: entry },
      previous: chain.entry(index - 1).chainHash,
      certificate: chain.certificate(index),
    };
    assert.throws(() => takeCheckpoint(trust, plain, serving), { code: 'malformed' });
    const stranger = { ...made, stateHash: sha256Hex(encode(createLedgerScript({ founder: 'x1' }).state())) };
    const foreign = encode(createLedgerScript({ founder: 'x1' }).state());
    assert.throws(() => allSteps(takeState(trust, stranger, foreign, serving)), { code: 'checkpoint-mismatch' });
  });

  test('takeState() refuses a state whose voters are not those that were proven', () => {
    const chain = fiveVoters();
    const first = chain.last();
    // Voters 3, 4 and 5 sign both: one who leaves out a change on the way still has their signatures.
    const [entering, leaving] = chain.change([3, 4, 5]);
    chain.checkpoint();
    const { proof, data } = chain.madeCheckpoint();
    const { trust } = follow(chain, first);
    const made = takeCheckpoint(
      trust,
      { ...proof, certificate: chain.certificate(proof.entry.index, [3, 4, 5]) },
      serving,
    );
    assert.throws(() => allSteps(takeState(trust, made, data, serving)), { code: 'checkpoint-mismatch' });
    assert.ok(leaving > entering);
  });
});

describe('a generation that was accepted', () => {
  /** What a member trusts that has followed to the last entry and then heard of a generation that goes on from there. */
  function succeeded(chain: CertifiedChain): { trust: Trust; following: Following } {
    const { trust, following } = follow(chain, chain.last());
    const { index, term, chainHash } = following.place;
    const record: GenerationRecord = {
      ...{ version: 1, fleet: trust.fleet, number: 1, baseIndex: index, baseTerm: term, baseHash: chainHash },
      voters: [{ raftId: 1_000_000, peer: peerIdOf('web1'), key: voterIdentityOf('web1').peer }],
      signature: null,
    };
    const known = trustIn(trust.fleet, trust.sets[0], [record]);
    return { trust: trust.sets.reduce(withVoterSet, known), following };
  }

  test('takePage() takes nothing of an older generation after the base of a newer one, its first entry neither', () => {
    for (const count of [1, 2]) {
      const chain = fiveVoters();
      const base = chain.last();
      const { trust, following } = succeeded(chain);
      chain.fill(count);
      const code = count === 1 ? 'overruled' : 'uncertified';
      assert.throws(() => takePage(trust, following, chain.page(base + 1, chain.last()), serving), { code });
    }
  });

  test('takeConfiguration() takes no change of voters in the place of those that a newer generation begins with', () => {
    const chain = fiveVoters();
    const { trust } = succeeded(chain);
    const [entering] = chain.change([3, 4, 5]);
    const proof = chain.proof(entering);
    assert.throws(() => takeConfiguration(trust, proof, serving), { code: 'overruled' });
    const { generations } = trust;
    assert.deepEqual(withVoterSet(trust, chain.script.state().voterSet).sets, trust.sets);
    assert.deepEqual(trust.sets.at(-1), generations[0] && generationVoters(generations[0]));
  });
});
