// Neighbour lists: the search in cells, and the selection of what is within the cutoff now.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <new>
#include <vector>

namespace {

struct Pair {
    int64_t j;
    int32_t s[3];
};

inline double dot(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

struct Search {
    std::vector<int64_t> centers;
    std::vector<Pair> pairs;
};

// Cells are no wider than the cutoff where the box allows: an atom's neighbours lie in its own and the 26 around it,
// or, in a periodic box thinner than the cutoff, in images of few cells.
void search(int64_t n_atoms, const double *positions, const double *cell, const double *inverse, const uint8_t *pbc,
            double cutoff, Search &found) {
    double height[3];
    for (int a = 0; a < 3; ++a) {
        const double column[3] = {inverse[a], inverse[3 + a], inverse[6 + a]};
        height[a] = 1 / std::sqrt(dot(column, column));
    }
    const int64_t enough = std::max<int64_t>(1, int64_t(std::cbrt(double(n_atoms))) + 1);  // no more cells than atoms
    int64_t count[3], reach[3];
    for (int a = 0; a < 3; ++a) {
        count[a] = std::clamp<int64_t>(int64_t(height[a] / cutoff), 1, 4 * enough);
        reach[a] = int64_t(std::ceil(cutoff / (height[a] / double(count[a])) - 1e-12));
    }
    const int64_t n_cells = count[0] * count[1] * count[2];
    std::vector<int64_t> home(3 * n_atoms), of_atom(n_atoms), first(n_cells + 1, 0), members(n_atoms);
    std::vector<int32_t> wraps(3 * n_atoms);
    for (int64_t i = 0; i < n_atoms; ++i) {
        for (int a = 0; a < 3; ++a) {
            double f = 0;
            for (int b = 0; b < 3; ++b) f += positions[3 * i + b] * inverse[3 * b + a];
            const double whole = pbc[a] ? std::floor(f) : 0.0;
            wraps[3 * i + a] = int32_t(whole);
            home[3 * i + a] = std::clamp<int64_t>(int64_t((f - whole) * double(count[a])), 0, count[a] - 1);
        }
        of_atom[i] = (home[3 * i] * count[1] + home[3 * i + 1]) * count[2] + home[3 * i + 2];
        ++first[of_atom[i] + 1];
    }
    for (int64_t k = 0; k < n_cells; ++k) first[k + 1] += first[k];
    {
        std::vector<int64_t> next(first.begin(), first.end() - 1);
        for (int64_t i = 0; i < n_atoms; ++i) members[next[of_atom[i]]++] = i;
    }
    // positions in the order of cells, so that the innermost loop reads them one after the other
    std::vector<double> wrapped(3 * n_atoms);
    for (int64_t m = 0; m < n_atoms; ++m) {
        const int64_t i = members[m];
        for (int b = 0; b < 3; ++b) {
            double value = positions[3 * i + b];
            for (int a = 0; a < 3; ++a) value -= wraps[3 * i + a] * cell[3 * a + b];
            wrapped[3 * m + b] = value;
        }
    }
    std::vector<int64_t> place(n_atoms);
    for (int64_t m = 0; m < n_atoms; ++m) place[members[m]] = m;

    const double square = cutoff * cutoff;
    std::vector<Pair> mine;
    for (int64_t i = 0; i < n_atoms; ++i) {
        const double *here = wrapped.data() + 3 * place[i];
        mine.clear();
        for (int64_t x = home[3 * i] - reach[0]; x <= home[3 * i] + reach[0]; ++x)
            for (int64_t y = home[3 * i + 1] - reach[1]; y <= home[3 * i + 1] + reach[1]; ++y)
                for (int64_t z = home[3 * i + 2] - reach[2]; z <= home[3 * i + 2] + reach[2]; ++z) {
                    const int64_t cells[3] = {x, y, z};
                    int64_t in[3], shift[3];
                    bool there = true;
                    for (int a = 0; a < 3; ++a) {
                        shift[a] = cells[a] >= 0 ? cells[a] / count[a] : -((count[a] - 1 - cells[a]) / count[a]);
                        in[a] = cells[a] - shift[a] * count[a];
                        there = there && (pbc[a] || shift[a] == 0);
                    }
                    if (!there) continue;
                    double offset[3];
                    for (int b = 0; b < 3; ++b)
                        offset[b] = double(shift[0]) * cell[b] + double(shift[1]) * cell[3 + b] +
                                    double(shift[2]) * cell[6 + b] - here[b];
                    const int64_t k = (in[0] * count[1] + in[1]) * count[2] + in[2];
                    const bool own = shift[0] == 0 && shift[1] == 0 && shift[2] == 0;
                    for (int64_t m = first[k]; m < first[k + 1]; ++m) {
                        const double r[3] = {wrapped[3 * m] + offset[0], wrapped[3 * m + 1] + offset[1],
                                             wrapped[3 * m + 2] + offset[2]};
                        if (dot(r, r) >= square) continue;
                        const int64_t j = members[m];
                        if (own && j == i) continue;
                        Pair pair{j, {}};
                        for (int a = 0; a < 3; ++a)
                            pair.s[a] = int32_t(shift[a]) - wraps[3 * j + a] + wraps[3 * i + a];
                        mine.push_back(pair);
                    }
                }
        std::sort(mine.begin(), mine.end(), [](const Pair &a, const Pair &b) {
            return a.j != b.j ? a.j < b.j : std::lexicographical_compare(a.s, a.s + 3, b.s, b.s + 3);
        });
        found.pairs.insert(found.pairs.end(), mine.begin(), mine.end());
        found.centers.insert(found.centers.end(), mine.size(), i);
    }
}

}  // namespace

extern "C" {

// All directed pairs closer than the cutoff, kept until they are taken: a handle, or null without memory.
// cell: rows are vectors; inverse: its inverse; pbc: one byte a direction.
void *pairs_search(int64_t n_atoms, const double *positions, const double *cell, const double *inverse,
                   const uint8_t *pbc, double cutoff, int64_t *n_pairs) {
    Search *found = nullptr;
    try {
        found = new Search;
        search(n_atoms, positions, cell, inverse, pbc, cutoff, *found);
        *n_pairs = int64_t(found->pairs.size());
        return found;
    } catch (const std::bad_alloc &) {
        delete found;
        return nullptr;
    }
}

// Copies the pairs out and forgets them.
void pairs_take(void *handle, int64_t *centers, int64_t *neighbors, int64_t *shifts) {
    Search *found = static_cast<Search *>(handle);
    std::copy(found->centers.begin(), found->centers.end(), centers);
    for (size_t p = 0; p < found->pairs.size(); ++p) {
        neighbors[p] = found->pairs[p].j;
        for (int a = 0; a < 3; ++a) shifts[3 * p + a] = found->pairs[p].s[a];
    }
    delete found;
}

// Those of n_pairs that are within the cutoff now, with their vectors; returns how many.
int64_t pairs_within(int64_t n_pairs, const int64_t *centers, const int64_t *neighbors, const int64_t *shifts,
                     const double *positions, const double *cell, double cutoff, int64_t *centers_out,
                     int64_t *neighbors_out, int64_t *shifts_out, double *vectors_out) {
    const double square = cutoff * cutoff;
    int64_t n = 0;
    for (int64_t p = 0; p < n_pairs; ++p) {
        const int64_t i = centers[p], j = neighbors[p], *s = shifts + 3 * p;
        double r[3];
        // the same operations in the same order as in numpy: r_j - r_i, then the shift
        for (int b = 0; b < 3; ++b) r[b] = positions[3 * j + b] - positions[3 * i + b];
        if (s[0] | s[1] | s[2])
            for (int b = 0; b < 3; ++b)
                r[b] += double(s[0]) * cell[b] + double(s[1]) * cell[3 + b] + double(s[2]) * cell[6 + b];
        centers_out[n] = i;  // overwritten by the next one if this one is too far away: no branch to mispredict
        neighbors_out[n] = j;
        for (int b = 0; b < 3; ++b) {
            shifts_out[3 * n + b] = s[b];
            vectors_out[3 * n + b] = r[b];
        }
        n += dot(r, r) < square;
    }
    return n;
}
}
