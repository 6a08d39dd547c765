// The store room: everything that outlives the process. LevelDB lives here and nowhere else; blobs are plain files,
// because LevelDB would rewrite bodies of tens of MiB at each compaction.

export { createBlobStore } from './blobs.ts';
export { openStore } from './database.ts';
export { replaceDurably, syncFolder } from './files.ts';
export { lockStateFolder, type StateLock } from './state-lock.ts';
export { createTentativeStore } from './tentative-store.ts';
export { createWitnessFile } from './witness-file.ts';
