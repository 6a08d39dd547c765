// Owns how configuration entries take effect: they are checked when proposed and switch the configuration when applied.

import { decode } from '../../../protocols/codec.ts';
import * as records from '../../../protocols/consensus-record.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import { changeMembership, configurationOf, ImpossibleChange, isJoint } from './configuration.ts';
import { nobody } from './message.ts';
import { voterIds } from './quorum.ts';
import { becomeFollower, type Raft } from './raft.ts';
import { advanceCommit, broadcastAppend, broadcastMissing } from './replicate.ts';

type Change = Pick<records.ConfigurationChange, 'transition' | 'steps' | 'context'>;

/**
 * The change that a configuration entry carries; an entry without data leaves the joint configuration.
 * @throws ParleyError `malformed`
 */
export function changeOf(data: Uint8Array): Change {
  if (data.byteLength === 0) return { transition: 'automatic', steps: [], context: data };
  return decode(records.configurationChangeSchema, data, data.byteLength, 'configuration change');
}

/** Why a change cannot be proposed now; undefined when it can. */
export function changeRefusal(raft: Raft, change: Change): string | undefined {
  const { applied } = raft.log;
  if (raft.pendingChangeIndex > applied) {
    return `entry ${raft.pendingChangeIndex} may change the voters and is not applied yet (applied: ${applied})`;
  }
  const joint = isJoint(raft.tracker.members);
  if (joint && change.steps.length > 0) return 'the joint configuration must be left first';
  if (!joint && change.steps.length === 0) return 'there is no joint configuration to leave';
  return undefined;
}

/**
 * Switches to the configuration after an applied change. One that cannot be read or cannot follow on the configuration
 * in force changes nothing, on every node alike.
 */
export function applyChange(raft: Raft, data: Uint8Array): records.Configuration {
  try {
    const { tracker, log } = raft;
    tracker.adopt(changeMembership(tracker, changeOf(data), log.lastIndex(), tracker.limits));
  } catch (error) {
    if (!(error instanceof ImpossibleChange) && !(error instanceof ParleyError)) throw error;
    return configurationOf(raft.tracker.members);
  }
  return afterSwitch(raft);
}

/** Drops everything known of the members and takes a snapshot's configuration. */
export function restoreConfiguration(raft: Raft, configuration: records.Configuration): void {
  raft.tracker.restore(configuration, raft.log.lastIndex());
  afterSwitch(raft);
}

function afterSwitch(raft: Raft): records.Configuration {
  const { tracker } = raft;
  const configuration = configurationOf(tracker.members);
  if (raft.role !== 'leader') return configuration;
  const own = tracker.progress.get(raft.options.raftId);
  if (!own || own.isLearner) {
    if (raft.options.stepDownOnRemoval) becomeFollower(raft, raft.term, nobody);
    return configuration;
  }
  if (configuration.voters.length === 0) return configuration;
  // Fewer voters may mean that more is committed; newcomers should not wait for a heartbeat.
  if (advanceCommit(raft)) broadcastAppend(raft);
  else broadcastMissing(raft);
  if (!voterIds(tracker.members.voters).includes(raft.transferTarget)) raft.transferTarget = nobody;
  return configuration;
}
