/* A throw-away key pair, and another public key, made by Debian's minisign 0.11. */
#pragma once

__attribute__((unused)) static const char public_base64[] = "RWTtSYqKA82J8GASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQh";
__attribute__((unused)) static const char other_base64[] = "RWSRYi+IFKjR6Y0yj/kl3zW1CTxv0l33rYFEOf1C19D8qhCH7LE4M8E+";
__attribute__((unused)) static const char secret_file[] =
    "untrusted comment: minisign encrypted secret key\n"
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA7UmKigPNifDaF/VBjZfVTiV7CYqVqOQVkopAw6Ku"
    "Cy7xNZjVhSWaTGASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQhAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
