// Owns what each command of etcd's interaction files takes, as far as ours has a counterpart for it.

import { number, numbers, truth } from './grammar.ts';

const nodes = { words: [number], moreWords: number } as const;
const level = /^(debug|info|warn|error|fatal|none)$/i;
const worldGrammar = {
  'add-nodes': {
    words: [number],
    named: {
      voters: numbers,
      learners: numbers,
      index: number,
      inflight: number,
      'max-committed-size-per-ready': number,
      'async-storage-writes': truth,
      checkquorum: truth,
      prevote: truth,
      'read-only': /^(safe|lease-based)$/,
      'disable-conf-change-validation': truth,
      'step-down-on-removal': truth,
    },
  },
  'log-level': { words: [level] },
  stabilize: { moreWords: number, named: { 'log-level': level } },
  'deliver-msgs': { moreWords: number, named: { type: /^Msg[A-Za-z]+$/, drop: numbers } },
  'process-ready': nodes,
  'process-append-thread': nodes,
  'process-apply-thread': nodes,
  'raft-state': {},
  'transfer-leadership': { named: { from: number, to: number }, needed: ['from', 'to'] },
} as const;
/** Their first word is the node. */
const nodeGrammar = {
  campaign: { words: [number] },
  compact: { words: [number, number] },
  'raft-log': { words: [number] },
  'set-randomized-election-timeout': { words: [number], named: { timeout: /^[1-9]\d*$/ }, needed: ['timeout'] },
  status: { words: [number] },
  'tick-election': { words: [number] },
  'tick-heartbeat': { words: [number] },
  'forget-leader': { words: [number] },
  'send-snapshot': { words: [number, number] },
  propose: { words: [number, /./] },
  'propose-conf-change': {
    words: [number],
    named: { v1: truth, transition: /^(auto|implicit|explicit)$/ },
    input: 'optional',
  },
  'report-unreachable': { words: [number, number] },
} as const;
export const interactionGrammar = { ...worldGrammar, ...nodeGrammar };
export type NodeCommand = keyof typeof nodeGrammar;
