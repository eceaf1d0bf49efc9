// Package crash holds the places at which a crash test kills the server.
//
// A [Point] does nothing in a server that is built without the tag crash. With
// it, the environment chooses one: MUSTER_CRASH_POINT=NAME:N kills the process by
// SIGKILL when it passes the point NAME for the Nth time. The test that does so
// is TestCrashKill in cmd/muster; make crash runs it.
package crash
