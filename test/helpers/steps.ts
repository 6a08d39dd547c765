// Owns running what computes in steps to its end at once.

/** What the steps come to, and how many there were before. */
export function allSteps<Result>(steps: Generator<undefined, Result>): {
  readonly result: Result;
  readonly count: number;
} {
  for (let count = 0; ; count += 1) {
    const step = steps.next();
    if (step.done) return { result: step.value, count };
  }
}
