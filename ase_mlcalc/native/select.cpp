// Pairs within the cutoff of many structures, from candidates that were searched for each of them some time ago.

#include <cstdint>

extern "C" {

// Structures follow one another: first_atom (n_structures + 1).  Candidates of structure b are counts[b] pairs, sorted,
// with indices from its first atom on; null for shifts where no pair crosses the cell.  crossed, or null: whole cells
// by which atoms were moved since the search.  Written: pairs with indices from the first atom of all on, their shifts
// unless that is null, their vectors; found[b], how many are those of structure b, and shortest[b], which of all is its
// shortest (-1: it has none).  Returns how many there are.
int64_t select_within(int64_t n_structures, const int64_t *first_atom, const double *positions, const double *cells,
                      double cutoff, const int64_t *const *centers, const int64_t *const *neighbors,
                      const int64_t *const *shifts, const int64_t *counts, const int64_t *crossed, int64_t *centers_out,
                      int64_t *neighbors_out, int64_t *shifts_out, double *vectors_out, int64_t *found,
                      int64_t *shortest) {
    const double square = cutoff * cutoff;
    int64_t n = 0;
    for (int64_t b = 0; b < n_structures; ++b) {
        const int64_t first = first_atom[b], begin = n;
        const double *cell = cells + 9 * b;
        double least = square;
        shortest[b] = -1;
        for (int64_t p = 0; p < counts[b]; ++p) {
            const int64_t i = first + centers[b][p], j = first + neighbors[b][p];
            int64_t s[3] = {0, 0, 0};
            if (shifts[b])
                for (int a = 0; a < 3; ++a) s[a] = shifts[b][3 * p + a];
            if (crossed)
                for (int a = 0; a < 3; ++a) s[a] += crossed[3 * i + a] - crossed[3 * j + a];
            double r[3];
            // the same operations in the same order as for one structure, see pairs.cpp
            for (int k = 0; k < 3; ++k) r[k] = positions[3 * j + k] - positions[3 * i + k];
            if (s[0] | s[1] | s[2])
                for (int k = 0; k < 3; ++k)
                    r[k] += double(s[0]) * cell[k] + double(s[1]) * cell[3 + k] + double(s[2]) * cell[6 + k];
            centers_out[n] = i;  // overwritten by the next one if this one is too far away: no branch to mispredict
            neighbors_out[n] = j;
            for (int k = 0; k < 3; ++k) vectors_out[3 * n + k] = r[k];
            if (shifts_out)
                for (int a = 0; a < 3; ++a) shifts_out[3 * n + a] = s[a];
            const double distance = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
            if (distance < least) {
                least = distance;
                shortest[b] = n;
            }
            n += distance < square;
        }
        found[b] = n - begin;
    }
    return n;
}
}
