package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this program", Example: "  muster version --json",
		GroupID: groupServer, Args: words(), ValidArgsFunction: noFiles,
		RunE: act(func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if !c.json {
				_, err := fmt.Fprintf(c.stdout, "muster %s (%s, %s)\n", buildVersion(), runtime.Version(), platform)
				return err
			}
			return json.NewEncoder(c.stdout).Encode(map[string]string{"version": buildVersion(), "go": runtime.Version(), "platform": platform})
		}),
	}
}
