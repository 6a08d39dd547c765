// Owns what is known about where a peer can be dialled, best first: the address that worked last, what the ledger records,
// what the peer itself told us, and what the local network claims. Pure, bounded for each peer.

/** Addresses of one origin: they are dialled one after another, so more would only delay the next round. */
const originMax = 8;
/** From unproven announcements on the local network: a forger can waste a few dials, no more. */
const claimedMax = 4;

interface Knowledge {
  worked: string | undefined;
  recorded: readonly string[];
  told: readonly string[];
  claimed: readonly string[];
}

export interface AddressBook {
  /** Addresses that the ledger records. Replaces earlier ones. */
  record(peer: string, addresses: readonly string[]): void;
  /** Addresses that the peer told us itself. Replaces earlier ones. */
  tell(peer: string, addresses: readonly string[]): void;
  /** An address that somebody claims. True if it was not known. */
  claim(peer: string, address: string): boolean;
  worked(peer: string, address: string): void;
  /** What to dial, in order, each with its `/p2p/` part. */
  candidates(peer: string): string[];
  /** Forgets all peers but these. */
  keepOnly(wanted: (peer: string) => boolean): void;
}

export function createAddressBook(): AddressBook {
  const peers = new Map<string, Knowledge>();

  function of(peer: string): Knowledge {
    let knowledge = peers.get(peer);
    if (knowledge === undefined) {
      knowledge = { worked: undefined, recorded: [], told: [], claimed: [] };
      peers.set(peer, knowledge);
    }
    return knowledge;
  }

  function known(peer: string): string[] {
    const { worked, recorded, told, claimed } = of(peer);
    return [...new Set([...(worked === undefined ? [] : [worked]), ...told, ...recorded, ...claimed])];
  }

  return {
    record(peer, addresses) {
      of(peer).recorded = normalised(peer, addresses).slice(0, originMax);
    },
    tell(peer, addresses) {
      of(peer).told = normalised(peer, addresses).slice(0, originMax);
    },
    claim(peer, address) {
      const [complete] = normalised(peer, [address]);
      if (complete === undefined || known(peer).includes(complete)) return false;
      of(peer).claimed = [complete, ...of(peer).claimed].slice(0, claimedMax);
      return true;
    },
    worked(peer, address) {
      of(peer).worked = normalised(peer, [address])[0];
    },
    candidates: known,
    keepOnly(wanted) {
      for (const peer of peers.keys()) if (!wanted(peer)) peers.delete(peer);
    },
  };
}

/** Completes addresses with the peer's id and leaves out those of other peers. */
function normalised(peer: string, addresses: readonly string[]): string[] {
  const suffix = `/p2p/${peer}`;
  return addresses
    .map((address) => (address.includes('/p2p/') ? address : address + suffix))
    .filter((address) => address.endsWith(suffix));
}
