"""The compiler's parts; `sw.compile.compiler` is the entrance."""
