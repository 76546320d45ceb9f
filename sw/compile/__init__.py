"""The compiler's parts; `sw.compiler` is the entrance."""
