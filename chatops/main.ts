// Owns the start of every front-end process: arguments in, exit status out. `scripts/parley` comes here for all but the
// peer's own commands.

import { runCli } from './cli.ts';

process.exitCode = await runCli(process.argv.slice(2));
