"""The command `spiketicket`: what it takes, a file a verb. What it does is done elsewhere.

`sw.cli.app` has the tree; a verb's file is imported when the verb is asked for, and imports at its
top only what its options need, so that help is quick.
"""
