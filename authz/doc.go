// Package authz says who may ask for what: it checks passwords and PINs, limits
// how often they can be guessed, and signs and checks grants.
//
// An [Authority] holds no record: the caller gives it the account or the group
// that a question is about, and acts on the answer. [Authority.Quick] never
// waits; what it cannot decide, [Authority.Judge] does, which may run argon2id.
//
// To an asker who may not know of a group, a wrong PIN, no PIN, a group that is
// not open to him, one that was deleted and one that never was are one answer,
// after one run of argon2id, counted by the same limits. In the same way an
// unknown user and a wrong password are one. (A hash that was made with other
// costs than those of now takes the time of its own.)
//
// Who fails has to wait, and nobody else: see [Config].
package authz
